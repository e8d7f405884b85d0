"""The stages of a run: what each reads and depends on, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sfm.colmap.model_reader import model_digest
from sfm.colmap.model_writer import UNREFINED
from sfm.errors import MissingStage
from sfm.export import hloc
from sfm.images import decoding, index
from sfm.images import stage as images
from sfm.images.discovery import find_images
from sfm.images.video.records import clip_folders
from sfm.images.video.source import ImageSource
from sfm.mapping import known_poses
from sfm.mapping import stage as mapping
from sfm.mapping.inputs import MappingInput, read_input
from sfm.mapping.registry import MAPPERS
from sfm.matchers.base import Matcher
from sfm.matchers.registry import device_of, make_matcher
from sfm.matching import stage as matching
from sfm.options import Options
from sfm.pairs import stage as pairs
from sfm.pairs.registry import versions
from sfm.refinement import stage as refinement
from sfm.refinement.rounds import Refiner
from sfm.results.files import DESCRIPTORS
from sfm.storage.database import FeatureDatabase
from sfm.system import memory
from sfm.system.hashing import files_digest, json_digest, size_and_time
from sfm.tracks import stage as tracks
from sfm.types import CameraPrior, ImageRecord, StageSummary
from sfm.verification import stage as verification

_Pixels = TypeVar("_Pixels")


@dataclass(frozen=True, slots=True)
class HlocFiles:
    """hloc's feature and match files, to be taken instead of matching."""

    features: Path
    matches: Path


class Run:
    """What the stages of one run share. The matcher is loaded when it is first asked for."""

    def __init__(
        self,
        db: FeatureDatabase,
        folder: Path,
        out: Path,
        options: Options,
        imported: HlocFiles | None,
        source: ImageSource | None = None,
    ) -> None:
        self.db = db
        self.folder = folder
        self.source = source or ImageSource(folder)  # what the folder was made from
        self.out = out
        self.options = options
        self.imported = imported

    @property
    def matcher_provenance(self) -> dict[str, str]:
        """What the matches depend on besides the images."""
        if self.imported is not None:
            return {"matcher": "hloc", "files": hloc.matcher_key(self.imported.features, self.imported.matches)}
        return self.matcher.provenance

    @property
    def known_intrinsics(self) -> bool:
        """The user gave the cameras' parameters."""
        return self.options.images.intrinsics is not None

    @cached_property
    def matcher(self) -> Matcher:
        """The matcher that the options name."""
        return make_matcher(self.options.matching)


@dataclass(frozen=True, slots=True)
class Stage:
    """reads: stages whose results it depends on. depends_on: what else, JSON-able. run: does the work and writes it.

    revision: raised by one when the stage's algorithm changes, so that what it wrote before is not reused.
    files: what it writes into the output folder besides its group of the database.
    """

    name: str
    reads: tuple[str, ...]
    depends_on: Callable[[Run], Any]
    run: Callable[[Run], StageSummary]
    revision: int = 1
    files: tuple[str, ...] = ()


def _images_depend_on(run: Run) -> Any:
    """Options, and names, sizes and times of all files: what can be known without reading an image."""
    options = run.options.images
    folders = [run.folder] + ([options.masks] if options.masks is not None else [])
    own = {name: value for name, value in asdict(options).items() if name != "frames"}  # seen in the frames themselves
    return [own, [_listing(folder) for folder in folders]]


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    found = find_images(folder)
    return [(name, *size_and_time(folder / name)) for name in found.names] + [(name, 0, 0) for name, _ in found.skipped]


def _run_images(run: Run) -> StageSummary:
    before = images_content(run.db)
    summary = images.run(run.db, run.folder, run.options.images)
    summary = replace(summary, notes=(*run.source.notes, *summary.notes))
    if images_content(run.db) != before:  # what other stages hold of other images counts no more, whatever comes
        for stage in STAGES[1:]:
            run.db.invalidate(stage.name)
    return summary


def images_content(db: FeatureDatabase) -> str:
    """Hash of all that later stages see of the images; copying a folder does not change it. "" before there are any."""
    try:
        records = db.read_images()
    except MissingStage:
        return ""
    return json_digest([(r.name, r.digest, r.width, r.height, _camera_content(r.camera)) for r in records])


def _camera_content(camera: CameraPrior) -> list[Any]:
    return [camera.model, camera.params.tolist(), bool(camera.has_focal_prior), camera.group]


def _pairs_depend_on(run: Run) -> Any:
    spec = run.options.pairs.pairs
    skipped = run.db.summary("images")
    listed = [Path(spec)] if Path(spec).is_file() else []
    names = [record.name for record in run.db.read_images()]
    clips = sorted(clip_folders(run.folder, names))
    own = [*versions(spec, len(names)), *([clips] if clips else [])]
    return [spec, files_digest(listed), skipped.skipped if skipped else (), *own]


def _run_pairs(run: Run) -> StageSummary:
    cache, masks = run.out / DESCRIPTORS, run.options.images.masks
    return pairs.run(run.db, run.options.pairs, run.folder, masks=masks, cache=cache)


def _run_matching(run: Run) -> StageSummary:
    options = run.options
    return matching.run(run.db, run.matcher, run.folder, options.matching, masks=options.images.masks)


def _run_import(run: Run) -> StageSummary:
    assert run.imported is not None
    return hloc.import_hloc(run.db, features=run.imported.features, matches=run.imported.matches)


def _tracks_depend_on(run: Run) -> Any:
    """Of memory only what the user gave: what happens to be free when a run carries on must not change the model."""
    given = run.options.matching.memory
    return asdict(run.options.tracks) | ({"memory": given} if given is not None else {})


def _mapping_depends_on(run: Run) -> Any:
    """0.1.0 retried, estimated focal lengths and refined for dense matchers only: what it made of others is redone."""
    options = run.options.mapping
    every_matcher = [] if run.db.read_traits().dense else ["every matcher"]
    poses = None if options.known_poses is None else model_digest(options.known_poses)
    own = [*every_matcher, *MAPPERS.version(options.mapper)]
    return [options.mapper, poses, options.min_model_size, options.seed, run.known_intrinsics, *own]


def _run_mapping(run: Run) -> StageSummary:
    run.db.invalidate("refinement")  # whose database.db is overwritten: an earlier one of these options is not whole
    return mapping.run(run.db, run.options.mapping, output=run.out, known_intrinsics=run.known_intrinsics)


def _mapped_input(run: Run) -> MappingInput:
    """What mapping read, with the cameras of the known poses where they were given."""
    data, folder = read_input(run.db, known_intrinsics=run.known_intrinsics), run.options.mapping.known_poses
    if folder is None:
        return data
    return known_poses.posed_input(data, known_poses.read_known_model(folder), folder)[0]


def _unchanged(run: Run, record: ImageRecord, read: Callable[[Path, ImageRecord], _Pixels]) -> _Pixels:
    """An image, if it is the one that was indexed. Raises BadImage."""
    pixels = read(run.folder, record)
    index.check_unchanged(run.folder, record, run.options.images.masks)
    return pixels


def _run_refinement(run: Run) -> StageSummary:
    records = {record.name: record for record in run.db.read_images()}
    masks = run.options.images.masks
    refiner = Refiner(
        _mapped_input(run),
        run.options.refinement,
        run.options.mapping,
        lambda name: _unchanged(run, records[name], decoding.read_grey),
        lambda name: decoding.read_mask(masks, records[name]) if masks is not None else None,
        memory.budget(run.options.matching.memory, device_of(run.options.matching)),
        device_of(run.options.matching),
    )
    summary = run.db.summary("mapping")
    assert summary is not None
    return refinement.run(
        refiner,
        output=run.out,
        read_rgb=lambda name: _unchanged(run, records[name], decoding.read_rgb),
        left_out=summary.skipped,
    )


STAGES = (
    Stage("images", (), _images_depend_on, _run_images),
    Stage("pairs", ("images",), _pairs_depend_on, _run_pairs),
    Stage(
        "matching",
        ("images", "pairs"),
        lambda run: [run.matcher_provenance, run.options.matching.turns],
        _run_matching,
    ),
    Stage(
        "verification",
        ("images", "matching"),
        lambda run: [asdict(run.options.verification), run.options.mapping.seed],
        lambda run: verification.run(run.db, run.options.verification, seed=run.options.mapping.seed),
    ),
    Stage(
        "tracks",
        ("images", "matching", "verification"),
        _tracks_depend_on,
        lambda run: tracks.run(run.db, run.options.tracks, memory=memory.budget(run.options.matching.memory)),
    ),
    Stage(
        "mapping",
        ("images", "verification", "tracks"),
        _mapping_depends_on,
        _run_mapping,
        files=(f"{UNREFINED}/0/images.bin", "database.db"),
    ),
    Stage(
        "refinement",
        ("mapping",),
        lambda run: asdict(run.options.refinement),
        _run_refinement,
        files=("sparse/0/images.bin", "points.ply", "database.db"),
    ),
)
IMPORT_STAGES = (  # pairs and matches come from hloc's files
    STAGES[0],
    Stage("matching", ("images",), lambda run: run.matcher_provenance, _run_import),
    *STAGES[3:],
)
