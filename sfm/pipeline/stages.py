"""The stages of a run: what each reads and depends on, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from sfm.cluster.address import address_of
from sfm.cluster.cluster import Cluster
from sfm.colmap.model_reader import model_digest, model_folder, read_models
from sfm.colmap.model_writer import UNREFINED
from sfm.errors import MissingStage
from sfm.export import hloc
from sfm.finders import joined_provenance
from sfm.images import decoding, index
from sfm.images.discovery import find_images
from sfm.images.given_intrinsics import intrinsics_files
from sfm.images.index import copy_reasons
from sfm.images.video.records import clip_folders
from sfm.images.video.source import ImageSource
from sfm.mapping import known_poses
from sfm.mapping import stage as mapping
from sfm.mapping.equal_cameras import with_equal_cameras
from sfm.mapping.inputs import MappingInput, read_input
from sfm.mapping.registry import MAPPERS
from sfm.mapping.rigs import as_mapped, with_known_rigs
from sfm.matchers.base import Matcher
from sfm.matchers.registry import device_of, fallback_of, make_matcher, one_by_one
from sfm.matching import stage as matching
from sfm.matching.stage import OneOfSeveral
from sfm.options import AUTO, SMALL_SET, MatchingOptions, Options
from sfm.pairs import stage as pairs
from sfm.pairs.registry import versions
from sfm.pipeline import alike_pairs, on_cluster, prepared_images
from sfm.pipeline.prepared_images import has_panoramas
from sfm.refinement import stage as refinement
from sfm.refinement.rounds import Refiner
from sfm.results.files import DESCRIPTORS
from sfm.rigs.faces_folder import is_face, panorama_rigs
from sfm.rigs.folders import FACE_MASKS, FACES
from sfm.rigs.layout import config_rigs, folder_rigs, is_config
from sfm.storage.database import FeatureDatabase
from sfm.system import memory
from sfm.system.hashing import files_digest, json_digest, size_and_time
from sfm.tracks import stage as tracks
from sfm.types import CameraPrior, CameraRig, ImageRecord, StageSummary
from sfm.verification import stage as verification

_Pixels = TypeVar("_Pixels")


@dataclass(frozen=True, slots=True)
class HlocFiles:
    """hloc's feature and match files, to be taken instead of matching."""

    features: Path
    matches: Path


class Run:
    """What the stages of one run share. The matchers are loaded when they are first asked for."""

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
        return joined_provenance([matcher.provenance for matcher in self.matchers])

    @property
    def known_intrinsics(self) -> bool:
        """The cameras' parameters are known: the user gave them, or all images are cube faces."""
        return self.options.images.intrinsics is not None or (
            self.panoramic and all(map(is_face, self.db.read_images()))
        )

    @property
    def panoramic(self) -> bool:
        """There are panoramas among the images, and so the images are cube faces and others in OUT."""
        return has_panoramas(self.db)

    @property
    def pixels(self) -> Path:
        """The folder of the images that stages read, once they are indexed."""
        return self.out / FACES if self.panoramic else self.folder

    @property
    def masks(self) -> Path | None:
        """The folder of their masks."""
        masks = self.options.images.masks
        return self.out / FACE_MASKS if masks is not None and self.panoramic else masks

    @property
    def rigs(self) -> tuple[CameraRig, ...]:
        """Which of the images were taken by cameras that are, or may be, mounted together."""
        records, how = self.db.read_images(), self.options.images.rig
        if self.panoramic:
            return panorama_rigs(records)
        names = [record.name for record in records]
        if how not in ("auto", "off"):
            return config_rigs(Path(how), names)
        clips = clip_folders(self.folder, names)  # frames of equal numbers are of equal times by chance alone
        still = [name for name in names if name.rpartition("/")[0] not in clips]
        return folder_rigs(still) if how == "auto" else ()

    @property
    def lenses(self) -> str:
        """What verification may find out of the lenses."""
        options = self.options
        if options.images.intrinsics is not None or options.mapping.known_poses is not None:
            return "keep"
        return "find" if options.images.camera_model == AUTO else "width"

    @cached_property
    def matchers(self) -> tuple[Matcher, ...]:
        """The matchers that the options name."""
        return tuple(map(make_matcher, one_by_one(self.options.matching)))

    @cached_property
    def fallback(self) -> tuple[Matcher, MatchingOptions] | None:
        """The detector that matches what the first matcher hardly does, its options; None where that is one itself."""
        options = fallback_of(self.options.matching) if self.imported is None else None
        if options is None or self.matchers[0].grid(64, 64) is None:
            return None
        return make_matcher(options), options

    @cached_property
    def address(self) -> str | None:
        """Of the cluster that matches and verifies; None where that is done here. Raises BadOption."""
        return address_of(self.options.cluster.cluster)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster, to which there is a connection from the first use until `close`. Raises BadOption."""
        assert self.address is not None
        return Cluster(self.address, device=self.options.matching.device)

    def close(self) -> None:
        """Ends the connection to the cluster, if there is one."""
        if "cluster" in vars(self):
            self.cluster.close()


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
    listings = [_listing(run.folder, index.excluded(options, [run.out]))]
    listings += [_listing(options.masks)] if options.masks is not None and options.masks.is_dir() else []
    given = intrinsics_files(options.intrinsics)
    config = [files_digest([Path(options.rig)])] if is_config(options.rig) else []
    lost = ["cube faces are gone"] if run.panoramic and not run.pixels.is_dir() else []
    own = {name: value for name, value in asdict(options).items() if name != "frames"}  # seen in the frames themselves
    return [own, listings, *([files_digest(given)] if given else []), *config, *lost]


def _listing(folder: Path, exclude: Sequence[Path] = ()) -> list[tuple[str, int, int]]:
    """What can be known of the files of a folder without reading them."""
    found = find_images(folder, exclude=exclude)
    unread = [*(name for name, _ in (*found.skipped, *found.others)), *found.videos, *found.results]
    return [(name, *size_and_time(folder / name)) for name in found.names] + [(name, 0, 0) for name in unread]


def _run_images(run: Run) -> StageSummary:
    before = images_content(run.db)
    imported = run.imported is not None
    summary = prepared_images.prepare(run.db, run.folder, run.out, run.options.images, imported=imported)
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
    copies = db.read_copies()
    content = [(r.name, r.digest, r.width, r.height, _camera_content(r.camera)) for r in records]
    return json_digest([content, copies] if copies else content)


def _camera_content(camera: CameraPrior) -> list[Any]:
    return [camera.model, camera.params.tolist(), bool(camera.has_focal_prior), camera.group]


def _pairs_depend_on(run: Run) -> Any:
    spec = run.options.pairs.pairs
    listed = [Path(spec)] if Path(spec).is_file() else []
    skipped = run.db.summary("images") if listed else None  # nothing but a file names images that are not there
    rigs = [[rig.prefixes, rig.frames] for rig in run.rigs]
    names = [record.name for record in run.db.read_images()]
    clips = sorted(clip_folders(run.folder, names))
    own = [*versions(spec, len(names)), *([clips] if clips else [])]
    left_out = sorted((*skipped.skipped, *copy_reasons(run.db.read_copies()))) if skipped else ()
    return [spec, files_digest(listed), left_out, *own, *rigs]


def _run_pairs(run: Run) -> StageSummary:
    cache = run.out / DESCRIPTORS
    return pairs.run(run.db, run.options.pairs, run.pixels, rigs=run.rigs, masks=run.masks, cache=cache)


def _matching_depends_on(run: Run) -> Any:
    turns = run.options.matching.turns
    helps = [run.fallback[0].provenance] if run.fallback is not None else []
    return [run.matcher_provenance, turns if turns == "off" else f"{turns}, glance", *helps]


def _run_matching(run: Run) -> StageSummary:
    def one(matcher: Matcher, options: MatchingOptions) -> OneOfSeveral:
        return OneOfSeveral(matcher, options, on_cluster.session_maker(run, matcher, options))

    each = list(map(one, run.matchers, one_by_one(run.options.matching)))
    fallback = one(*run.fallback) if run.fallback is not None else None
    return matching.run_several(run.db, each, run.pixels, masks=run.masks, fallback=fallback)


def _run_import(run: Run) -> StageSummary:
    assert run.imported is not None
    return hloc.import_hloc(run.db, features=run.imported.features, matches=run.imported.matches)


def _of_many(run: Run) -> list[str]:
    """The version of what is done otherwise where there are many images."""
    return ["of many"] if len(run.db.read_images()) > SMALL_SET else []


def _tracks_depend_on(run: Run) -> Any:
    """Of memory only what the user gave: what happens to be free when a run carries on must not change the model."""
    given = run.options.matching.memory
    own = asdict(run.options.tracks)
    if own["max_observations"] is None:  # as in what was written before there was this option
        own.pop("max_observations")
        own |= dict.fromkeys(_of_many(run), 1)
    return own | ({"memory": given} if given is not None else {})


def _mapping_depends_on(run: Run) -> Any:
    """0.1.0 retried, estimated focal lengths and refined for dense matchers only: what it made of others is redone."""
    options = run.options.mapping
    every_matcher = [] if run.db.read_traits().dense else ["every matcher"]
    poses = None if options.known_poses is None else model_digest(model_folder(options.known_poses))
    rigs = [[rig.prefixes, rig.frames, _plain(rig), rig.fixed] for rig in run.rigs]
    own = [*every_matcher, *MAPPERS.version(options.mapper), *rigs, *_of_many(run), *alike_pairs.trusted_digest(run)]
    return [options.mapper, poses, options.min_model_size, options.seed, run.known_intrinsics, *own]


def _plain(rig: CameraRig) -> Any:
    return None if rig.cam_from_rig is None else [pose.tolist() for pose in rig.cam_from_rig]


def _run_mapping(run: Run) -> StageSummary:
    run.db.invalidate("refinement")  # whose database.db is overwritten: an earlier one of these options is not whole
    return mapping.run(
        run.db,
        run.options.mapping,
        output=run.out,
        known_intrinsics=run.known_intrinsics,
        rigs=run.rigs,
        trusted=alike_pairs.trusted_pairs(run),
        build_tracks=partial(alike_pairs.build_tracks_without, run),
    )


def mapped_input(run: Run) -> MappingInput:
    """What mapping read, with the cameras and rigs that it found them to be, or those of known poses."""
    rigs, folder = run.rigs, run.options.mapping.known_poses
    data = with_known_rigs(read_input(run.db, known_intrinsics=run.known_intrinsics), rigs)
    if folder is None:
        may_differ = rigs or with_equal_cameras(data) is not None
        return as_mapped(data, read_models(run.out / UNREFINED)[0], rigs) if may_differ else data
    return known_poses.posed_input(data, known_poses.read_known_model(folder), folder)[0]


def _unchanged(run: Run, record: ImageRecord, read: Callable[[Path, ImageRecord], _Pixels]) -> _Pixels:
    """An image, if it is the one that was indexed. Raises BadImage."""
    pixels = read(run.pixels, record)
    index.check_unchanged(run.pixels, record, run.masks)
    return pixels


def _run_refinement(run: Run) -> StageSummary:
    records = {record.name: record for record in run.db.read_images()}
    masks = run.masks
    refiner = Refiner(
        mapped_input(run),
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
        copies=run.db.read_copies(),
    )


STAGES = (
    Stage("images", (), _images_depend_on, _run_images, revision=3),
    Stage("pairs", ("images",), _pairs_depend_on, _run_pairs),
    Stage(
        "matching",
        ("images", "pairs"),
        _matching_depends_on,
        _run_matching,
        revision=4,
    ),
    Stage(
        "verification",
        ("images", "matching"),
        lambda run: [asdict(run.options.verification), run.options.mapping.seed, run.lenses, *_of_many(run)],
        lambda run: verification.run(
            run.db,
            run.options.verification,
            seed=run.options.mapping.seed,
            lenses=run.lenses,
            map_elsewhere=on_cluster.map_elsewhere(run),
        ),
        revision=verification.REVISION,
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
        revision=4,
        files=(f"{UNREFINED}/0/images.bin", "database.db"),
    ),
    Stage(
        "refinement",
        ("mapping",),
        lambda run: asdict(run.options.refinement),
        _run_refinement,
        revision=5,
        files=("sparse/0/images.bin", "points.ply", "database.db"),
    ),
)
IMPORT_STAGES = (  # pairs and matches come from hloc's files
    STAGES[0],
    Stage("matching", ("images",), lambda run: run.matcher_provenance, _run_import),
    *STAGES[3:],
)
