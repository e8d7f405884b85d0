"""One run over all stages (sfm.pipeline.stages): what still holds is reused, what came out is put together and judged.

A stage's fingerprint is a hash of its name, the versions, its options and the fingerprints of what
it reads. A stage that is committed with the same fingerprint is reused, anything else is redone.
Resuming after a kill, partial reruns and provenance are this one rule. Inside the matching stage
pairs survive by themselves: only pairs whose photos or whose matcher changed are matched again.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfm import __version__
from sfm.colmap.model_reader import read_models
from sfm.colmap.model_writer import UNREFINED, remove_leftovers
from sfm.errors import BadFile, BadOption, NoModel
from sfm.mapping import known_poses
from sfm.mapping import stage as mapping
from sfm.mapping.inputs import read_input
from sfm.options import Options
from sfm.pipeline.stages import IMPORT_STAGES, STAGE_NAMES, STAGES, HlocFiles, Run, Stage, digest, images_content
from sfm.quality import checks as verdict
from sfm.report import run as report
from sfm.results.files import DATABASE, REPORT, RUN_JSON
from sfm.results.run_json import write_run_json
from sfm.storage.database import FeatureDatabase
from sfm.system import memory
from sfm.system.machine import peak_mb, reset_peak
from sfm.system.untrusted_files import refuse_links
from sfm.types import Doubt, ReconstructionSummary, StageSummary

_SAFE = "what was done is kept: free some space, or see to it that the folder can be written, and run again"


WRITTEN = (  # all that a run writes into its output folder
    *(f"{name}{suffix}" for name in (DATABASE, RUN_JSON, REPORT) for suffix in ("", ".part")),
    *(f"{DATABASE}.{suffix}" for suffix in ("journal", "lock", "new")),
    *("database.db", "points.ply", "sparse", UNREFINED, ".refinement"),
)


def _no_model(db: FeatureDatabase) -> StageSummary:
    """The mapping stage where there is no model: why not, photo by photo."""
    data = read_input(db, known_intrinsics=False)
    return StageSummary("mapping", {"models": 0}, 0.0, mapping.unregistered(data, ()))


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
        run = Run(db, folder, out, options, imported)
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


def _stages_of(run: Run, stop_after: str | None) -> Iterator[StageSummary]:
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
        results[stage.name] = images_content(run.db) if stage.name == "images" else fingerprint
        yield summary
        if stage.name == stop_after:
            return


def _fingerprint(stage: Stage, run: Run, results: dict[str, str]) -> str:
    read = [results[name] for name in stage.reads]
    return digest([stage.name, __version__, stage.depends_on(run), read])


def _with_skipped(stage: Stage, fingerprint: str, summary: StageSummary) -> str:
    if stage.name == "matching" and summary.skipped:
        return digest([fingerprint, summary.skipped])
    return fingerprint


def _is_there(stage: Stage, out: Path) -> bool:
    """Some results are files of their own, which somebody may have moved."""
    files = {
        "mapping": (f"{UNREFINED}/0/images.bin", "database.db"),
        "refinement": ("sparse/0/images.bin", "points.ply", "database.db"),
    }
    return all((out / name).is_file() for name in files.get(stage.name, ()))


def _provenance(stage: Stage, run: Run) -> dict[str, Any]:
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


def _doubts(run: Run, stages: list[StageSummary]) -> tuple[Doubt, ...]:
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
