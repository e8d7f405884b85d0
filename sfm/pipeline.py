"""The stages in order: what each reads, when its result still holds, and one run over all of them.

A stage's fingerprint is a hash of its name, the versions, its options and the fingerprints of what
it reads. A stage that is committed with the same fingerprint is reused, anything else is redone.
Resuming after a kill, partial reruns and provenance are this one rule. Inside the matching stage
pairs survive by themselves: only pairs whose photos or whose matcher changed are matched again.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sfm import (
    __version__,
    hloc,
    images,
    known_poses,
    mapping,
    matching,
    memory,
    pairs,
    refinement,
    tracks,
    verdict,
    verification,
)
from sfm.database import FeatureDatabase
from sfm.errors import BadFile, BadOption, MissingStage, NoModel
from sfm.machine import peak_mb, reset_peak
from sfm.mapper import MappingInput, read_input
from sfm.matcher_choice import device_of, make_matcher
from sfm.matchers.base import Matcher
from sfm.model_files import UNREFINED, read_models, remove_leftovers
from sfm.options import Options
from sfm.photo_search import find_images
from sfm.summary import DATABASE, REPORT, RUN_JSON, write_run_json
from sfm.types import CameraPrior, Doubt, ImageRecord, ReconstructionSummary, StageSummary
from sfm.untrusted import refuse_links
from sfm.views import report

_Pixels = TypeVar("_Pixels")
_SAFE = "what was done is kept: free some space, or see to it that the folder can be written, and run again"


@dataclass(frozen=True, slots=True)
class HlocFiles:
    """hloc's feature and match files, to be taken instead of matching."""

    features: Path
    matches: Path


class _Run:
    """What the stages of one run share. The matcher is loaded when it is first asked for."""

    def __init__(
        self, db: FeatureDatabase, folder: Path, out: Path, options: Options, imported: HlocFiles | None
    ) -> None:
        self.db = db
        self.folder = folder
        self.out = out
        self.options = options
        self.imported = imported

    @property
    def matcher_provenance(self) -> dict[str, str]:
        """What the matches depend on besides the photos."""
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
    """reads: stages whose results it depends on. depends_on: what else, JSON-able. run: does the work and writes it."""

    name: str
    reads: tuple[str, ...]
    depends_on: Callable[[_Run], Any]
    run: Callable[[_Run], StageSummary]


def _images_depend_on(run: _Run) -> Any:
    """Options, and names, sizes and times of all files: what can be known without reading a photo."""
    options = run.options.images
    folders = [run.folder] + ([options.masks] if options.masks is not None else [])
    return [asdict(options), [_listing(folder) for folder in folders]]


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    found = find_images(folder)
    return [(name, *_size_and_time(folder / name)) for name in found.names] + [
        (name, 0, 0) for name, _ in found.skipped
    ]


def _size_and_time(path: Path) -> tuple[int, int]:
    """Of a file; zeros where it has gone since it was found."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _run_images(run: _Run) -> StageSummary:
    before = _images_content(run.db)
    summary = images.run(run.db, run.folder, run.options.images)
    if _images_content(run.db) != before:  # what other stages hold of other photos counts no more, whatever comes
        for stage in STAGES[1:]:
            run.db.invalidate(stage.name)
    return summary


def _images_content(db: FeatureDatabase) -> str:
    """Hash of all that later stages see of the photos; copying a folder does not change it. "" before there are any."""
    try:
        records = db.read_images()
    except MissingStage:
        return ""
    return _digest([(r.name, r.digest, r.width, r.height, _camera_content(r.camera)) for r in records])


def _camera_content(camera: CameraPrior) -> list[Any]:
    return [camera.model, camera.params.tolist(), bool(camera.has_focal_prior), camera.group]


def _pairs_depend_on(run: _Run) -> Any:
    spec = run.options.pairs.pairs
    skipped = run.db.summary("images")
    listed = Path(spec).read_bytes() if Path(spec).is_file() else b""
    return [spec, hashlib.sha256(listed).hexdigest(), skipped.skipped if skipped else ()]


def _run_matching(run: _Run) -> StageSummary:
    options = run.options
    return matching.run(run.db, run.matcher, run.folder, options.matching, masks=options.images.masks)


def _run_import(run: _Run) -> StageSummary:
    assert run.imported is not None
    return hloc.import_hloc(run.db, features=run.imported.features, matches=run.imported.matches)


def _tracks_depend_on(run: _Run) -> Any:
    """Of memory only what the user gave: what happens to be free when a run carries on must not change the model."""
    given = run.options.matching.memory
    return asdict(run.options.tracks) | ({"memory": given} if given is not None else {})


def _no_model(db: FeatureDatabase) -> StageSummary:
    """The mapping stage where there is no model: why not, photo by photo."""
    data = read_input(db, known_intrinsics=False)
    return StageSummary("mapping", {"models": 0}, 0.0, mapping.unregistered(data, ()))


def _mapping_depends_on(run: _Run) -> Any:
    options = run.options.mapping
    poses = None if options.known_poses is None else known_poses.digest(options.known_poses)
    return [options.mapper, poses, options.min_model_size, options.seed, run.known_intrinsics]


def _run_mapping(run: _Run) -> StageSummary:
    return mapping.run(run.db, run.options.mapping, output=run.out, known_intrinsics=run.known_intrinsics)


def _mapped_input(run: _Run) -> MappingInput:
    """What mapping read, with the cameras of the known poses where they were given."""
    data, folder = read_input(run.db, known_intrinsics=run.known_intrinsics), run.options.mapping.known_poses
    if folder is None:
        return data
    return known_poses.posed_input(data, known_poses.read_known_model(folder), folder)[0]


def _unchanged(run: _Run, record: ImageRecord, read: Callable[[Path, ImageRecord], _Pixels]) -> _Pixels:
    """A photo, if it is the one that was indexed. Raises BadImage."""
    pixels = read(run.folder, record)
    images.check_unchanged(run.folder, record, run.options.images.masks)
    return pixels


def _run_refinement(run: _Run) -> StageSummary:
    records = {record.name: record for record in run.db.read_images()}
    masks = run.options.images.masks
    refiner = refinement.Refiner(
        _mapped_input(run),
        run.options.refinement,
        run.options.mapping,
        lambda name: _unchanged(run, records[name], images.read_grey),
        lambda name: images.read_mask(masks, records[name]) if masks is not None else None,
        memory.budget(run.options.matching.memory, device_of(run.options.matching)),
        device_of(run.options.matching),
    )
    summary = run.db.summary("mapping")
    assert summary is not None
    return refinement.run(
        refiner,
        output=run.out,
        read_rgb=lambda name: _unchanged(run, records[name], images.read_rgb),
        left_out=summary.skipped,
    )


STAGES = (
    Stage("images", (), _images_depend_on, _run_images),
    Stage("pairs", ("images",), _pairs_depend_on, lambda run: pairs.run(run.db, run.options.pairs)),
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
    Stage("mapping", ("images", "verification", "tracks"), _mapping_depends_on, _run_mapping),
    Stage("refinement", ("mapping",), lambda run: asdict(run.options.refinement), _run_refinement),
)
IMPORT_STAGES = (  # pairs and matches come from hloc's files
    STAGES[0],
    Stage("matching", ("images",), lambda run: run.matcher_provenance, _run_import),
    *STAGES[3:],
)
WRITTEN = (  # all that a run writes into its output folder
    *(f"{name}{suffix}" for name in (DATABASE, RUN_JSON, REPORT) for suffix in ("", ".part")),
    *(f"{DATABASE}.{suffix}" for suffix in ("journal", "lock", "new")),
    *("database.db", "points.ply", "sparse", UNREFINED, ".refinement"),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def reconstruct(
    folder: Path,
    out: Path,
    options: Options | None = None,
    *,
    stop_after: str | None = None,
    imported: HlocFiles | None = None,
    on_stage: Callable[[StageSummary], None] = lambda summary: None,
) -> ReconstructionSummary:
    """Photos in `folder` to models in `out`/sparse; what is there already and still holds is reused.

    stop_after: name of the last stage to run. imported: matches to use instead of matching.
    on_stage: told of each stage when it is done. Writes `out`/run.json and, after the last stage,
    report.html whether there is a model or not. Raises BadFile, BadImage and BadOption for what the
    user can mend, NoModel where the photos give no model. A model that is probably bad is returned, with its doubts.
    """
    options = options or Options()
    if stop_after is not None and stop_after not in STAGE_NAMES:
        raise BadOption(f"--stop-after {stop_after}: choose one of {', '.join(STAGE_NAMES)}")
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder; give the folder of your photos")
    _check_writable(out)
    if options.mapping.known_poses is not None:
        known_poses.read_known_model(options.mapping.known_poses)  # what is wrong with it is told before the matching
    summaries: list[StageSummary] = []
    failure = None
    with _disk_errors(out), FeatureDatabase.open(out / DATABASE) as db:
        remove_leftovers(out)
        run = _Run(db, folder, out, options, imported)
        try:
            for summary in _stages_of(run, stop_after):
                summaries.append(summary)
                on_stage(summary)
        except NoModel as error:
            summaries.append(_no_model(db))
            on_stage(summaries[-1])
            failure = str(error)
        result = replace(_summarise(out, summaries), doubts=() if failure is not None else _doubts(run, summaries))
        files = (imported.features, imported.matches) if imported is not None else ()
        write_run_json(result, folder, options, _matcher_used(db), error=failure, imported=files)
    if stop_after in (None, STAGE_NAMES[-1]) and not options.report.no_report:
        report.refresh(out)
    if failure is not None:
        stale = f"; {out / 'sparse'} is of an earlier run" if (out / "sparse").exists() else ""
        raise NoModel(f"{failure}{stale}")
    return result


def _check_writable(out: Path) -> None:
    """BadFile unless files can be made in `out`, which is made where absent."""
    if out.exists() and not out.is_dir():
        raise BadFile(f"{out}: is a file; give a folder for the results")
    try:
        out.mkdir(parents=True, exist_ok=True)
        refuse_links(out, WRITTEN)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """What a disk does that is full or gone while a run writes its results becomes one line."""
    try:
        yield
    except BrokenPipeError:  # of our output, no file
        raise
    except OSError as error:
        raise BadFile(f"{error.filename or out}: {error.strerror or error}; {_SAFE}") from error
    except RuntimeError as error:  # COLMAP's words
        _, is_sqlite, reason = str(error).rpartition("SQLite error: ")
        if not is_sqlite and "database factory" not in str(error):
            raise
        reason = reason if is_sqlite else "disk full?"
        raise BadFile(f"{out / 'database.db'}: cannot be written ({reason}); {_SAFE}") from error


def _stages_of(run: _Run, stop_after: str | None) -> Iterator[StageSummary]:
    """Runs stage after stage, or reuses what it left; yields each one's summary."""
    results: dict[str, str] = {}  # of each stage: the hash that stages which read it depend on
    for stage in STAGES if run.imported is None else IMPORT_STAGES:
        fingerprint = _fingerprint(stage, run, results)
        summary = run.db.summary(stage.name)
        if summary is not None and run.db.fingerprint(stage.name) == fingerprint and _is_there(stage, run.out):
            summary = replace(summary, reused=True)
        else:
            run.db.invalidate(stage.name)
            memory.give_back()
            reset_peak()
            summary = replace(stage.run(run), peak_mb=round(peak_mb(), 1))
            # Matching that had to leave out photos is committed as such, and tried again by the next run.
            fingerprint = _with_skipped(stage, fingerprint, summary)
            run.db.commit(stage.name, fingerprint=fingerprint, provenance=_provenance(stage, run), summary=summary)
        results[stage.name] = _images_content(run.db) if stage.name == "images" else fingerprint
        yield summary
        if stage.name == stop_after:
            return


def _fingerprint(stage: Stage, run: _Run, results: dict[str, str]) -> str:
    read = [results[name] for name in stage.reads]
    return _digest([stage.name, __version__, stage.depends_on(run), read])


def _with_skipped(stage: Stage, fingerprint: str, summary: StageSummary) -> str:
    if stage.name == "matching" and summary.skipped:
        return _digest([fingerprint, summary.skipped])
    return fingerprint


def _is_there(stage: Stage, out: Path) -> bool:
    """Some results are files of their own, which somebody may have moved."""
    files = {
        "mapping": (f"{UNREFINED}/0/images.bin", "database.db"),
        "refinement": ("sparse/0/images.bin", "points.ply", "database.db"),
    }
    return all((out / name).is_file() for name in files.get(stage.name, ()))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _provenance(stage: Stage, run: _Run) -> dict[str, Any]:
    own = run.options.as_dict().get(stage.name, {})
    return {
        "version": __version__,
        "options": own,
        **({"matcher": run.matcher_provenance} if stage.name == "matching" else {}),
    }


def _matcher_used(db: FeatureDatabase) -> dict[str, str]:
    return dict(db.provenance("matching").get("matcher", {}))


def _summarise(out: Path, stages: list[StageSummary]) -> ReconstructionSummary:
    """What the stages say, put together; a run without mapping has no model and no photo registered."""
    by_name = {stage.stage: stage for stage in stages}
    last = by_name.get("refinement", by_name.get("mapping"))
    counts = last.counts if last is not None else {}
    num_models = int(counts.get("models", 0))
    kept = out / ("sparse" if "refinement" in by_name else UNREFINED)
    folders = [kept / str(i) for i in range(num_models)]
    found, skipped = by_name["images"], by_name["images"].skipped
    return ReconstructionSummary(
        images=int(found.counts["images"]) + len(skipped),
        registered=int(counts.get("registered", 0)),
        points3D=int(counts.get("points3D", 0)),
        observations=int(counts.get("observations", 0)),
        track_length=float(counts.get("track_length", 0.0)),
        reprojection_error=float(counts.get("reprojection_error", 0.0)),
        unregistered=_unregistered(by_name),
        stages=tuple(stages),
        models=tuple((folder, _num_registered(folder)) for folder in folders),
        model_dir=kept / "0",
    )


def _doubts(run: _Run, stages: list[StageSummary]) -> tuple[Doubt, ...]:
    """What speaks against the largest model; nothing before there is one."""
    kept = {"mapping": UNREFINED, "refinement": "sparse"}.get(stages[-1].stage)
    if kept is None:
        return ()
    posed = run.options.mapping.known_poses is not None
    data = read_input(run.db, known_intrinsics=run.known_intrinsics)
    model, *others = read_models(run.out / kept)
    mapped = read_models(run.out / UNREFINED)[0]
    return verdict.doubts(verdict.Evidence(model, mapped, tuple(others), data, known_poses=posed))


def _unregistered(by_name: dict[str, StageSummary]) -> tuple[tuple[str, str], ...]:
    """(photo, reason) of all that are not in the largest model; the earliest reason counts."""
    reasons: dict[str, str] = {}
    last = "refinement" if "refinement" in by_name else "mapping"
    for name in ("images", "matching", last):
        for photo, reason in by_name[name].skipped if name in by_name else ():
            reasons.setdefault(photo, reason if name == last else f"skipped: {reason}")
    return tuple(sorted(reasons.items()))


def _num_registered(folder: Path) -> int:
    """Number of images of a binary COLMAP model, which its images.bin begins with."""
    with (folder / "images.bin").open("rb") as stream:
        (num,) = struct.unpack("<Q", stream.read(8))
    return int(num)
