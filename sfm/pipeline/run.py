"""A run over all stages (sfm.pipeline.stages), or over some of them one at a time.

summary = reconstruct("images", "out", matcher="loftr", pairs="sequential:5")

with open_run("images", "out") as run:
    run.run_stage("matching")
    run.db.read_pairs()
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm.cluster.address import address_of
from sfm.colmap.model_writer import remove_leftovers
from sfm.errors import BadFile, BadOption, NoModel
from sfm.georeferencing.placement import place, scale_doubts
from sfm.georeferencing.scale_bars import read_scale_bars
from sfm.images.video.source import prepare
from sfm.mapping import known_poses
from sfm.matchers.registry import check_choice
from sfm.options import Options, RunKeywords
from sfm.pairs.registry import check_pairs
from sfm.pipeline.alike_pairs import check_trusted, trusted_pairs
from sfm.pipeline.output_folder import check_writable, disk_errors
from sfm.pipeline.reuse import bring_up_to_date
from sfm.pipeline.stages import IMPORT_STAGES, STAGES, HlocFiles, Run, Stage
from sfm.pipeline.summary import summarise, warnings_of, without_model
from sfm.report import run as report
from sfm.results.files import DATABASE
from sfm.results.run_json import write_run_json
from sfm.rigs.layout import is_config, read_rig_config
from sfm.storage.database import FeatureDatabase
from sfm.types import STAGE_NAMES, ModelWarning, ReconstructionSummary, StageSummary

if TYPE_CHECKING:
    from typing import Unpack

log = logging.getLogger(__name__)


class OpenRun:
    """A run whose stages are run one at a time. db: its feature database, which the stages read and write."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._read: dict[str, str] = {}  # of each stage that is up to date: the hash that later ones depend on
        self._summaries: list[StageSummary] = []

    @property
    def db(self) -> FeatureDatabase:
        """The feature database."""
        return self._run.db

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of this run, in order; one of hloc's files chooses no pairs."""
        return _stages(self._run.imported)

    @property
    def summaries(self) -> tuple[StageSummary, ...]:
        """Of the stages that are up to date."""
        return tuple(self._summaries)

    def run_stage(self, name: str) -> StageSummary:
        """Brings a stage up to date, and before it those that it reads; what is still valid is reused.

        Returns its summary. Raises BadOption where there is no such stage, BadFile, BadImage and BadOption for what the
        user can correct, NoModel where mapping finds none.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise BadOption(f"stage {name}: choose one of {', '.join(names)}")
        for stage in self.stages[len(self._summaries) : names.index(name) + 1]:
            summary, self._read[stage.name] = bring_up_to_date(stage, self._run, self._read)
            if stage.name == "images":
                trusted_pairs(self._run)  # a name that is wrong is said before the matching
            self._summaries.append(summary)
        return self._summaries[names.index(name)]


@contextmanager
def open_run(
    images: str | PathLike[str],
    out: str | PathLike[str],
    options: Options | None = None,
    *,
    imported: HlocFiles | None = None,
    **keywords: Unpack[RunKeywords],
) -> Iterator[OpenRun]:
    """A run of the images in a folder into the folder `out`, to be run stage by stage; arguments as reconstruct."""
    with _opened(Path(images), Path(out), _options(options, keywords), imported) as run:
        yield OpenRun(run)


def reconstruct(
    images: str | PathLike[str],
    out: str | PathLike[str],
    options: Options | None = None,
    *,
    stop_after: str | None = None,
    imported: HlocFiles | None = None,
    on_stage: Callable[[StageSummary], None] = lambda summary: None,
    **keywords: Unpack[RunKeywords],
) -> ReconstructionSummary:
    """Images in a folder, or frames of videos, to models in `out`/sparse; what is there and still valid is reused.

    images: the folder, or a video; the frames that are kept of videos are in `out`/frames.
    options, or keywords: the options of the command line by their names, e.g. matcher="sift", resize=1024.
    stop_after: name of the last stage to run. imported: matches to use instead of matching. on_stage: called with each
    stage's summary when it is done. Writes `out`/run.json and, after the last stage, report.html whether there is a
    model or not. Raises BadFile, BadImage and BadOption for what the user can correct, NoModel where the images give no
    model. A model that is probably bad is returned, with its warnings.
    """
    folder, out, options = Path(images), Path(out), _options(options, keywords)
    names = [stage.name for stage in _stages(imported)]
    if stop_after is not None and stop_after not in names:
        raise BadOption(f"--stop-after {stop_after}: choose one of {', '.join(names)}")
    with _opened(folder, out, options, imported) as run:
        stages = OpenRun(run)
        failure = _run_stages(stages, stop_after, on_stage)
        summaries = stages.summaries
        if failure is not None:
            summaries = (*summaries, without_model(run.db))
            on_stage(summaries[-1])
        georeference = _placed(run, summaries) if failure is None else None
        warnings = warnings_of(run, summaries) if failure is None else ()
        warnings += tuple(ModelWarning("scale bars", text) for text in scale_doubts(georeference or {}))
        result = replace(summarise(out, summaries), warnings=warnings, georeference=georeference)
        _write_run_json(run, folder, result, failure)
    if stop_after in (None, STAGE_NAMES[-1]) and not options.report.no_report:
        report.refresh(out)
    if failure is not None:
        stale = f"; {out / 'sparse'} is of an earlier run" if (out / "sparse").exists() else ""
        raise NoModel(f"{failure}{stale}")
    return result


def _stages(imported: HlocFiles | None) -> tuple[Stage, ...]:
    return STAGES if imported is None else IMPORT_STAGES


def _options(options: Options | None, keywords: RunKeywords) -> Options:
    if options is not None and keywords:
        raise BadOption(f"{', '.join(keywords)}: give options either as Options or as keyword arguments")
    return options if options is not None else Options.of(**keywords)


@contextmanager
def _opened(folder: Path, out: Path, options: Options, imported: HlocFiles | None) -> Iterator[Run]:
    """The state of a run whose folders and known poses were checked, with its database open."""
    if not folder.exists():
        raise BadFile(f"{folder}: no such folder; give the folder of your images, or a video")
    if imported is None:
        check_choice(options.matching)  # what is wrong with it is said before the images are read
        check_pairs(options.pairs.pairs)  # as above
    address_of(options.cluster.cluster)  # as above
    check_trusted(options.mapping.trust_pairs)  # as above
    check_writable(out)
    if options.mapping.known_poses is not None:
        known_poses.read_known_model(options.mapping.known_poses)  # what is wrong with it is said before the matching
    if options.georeferencing.scale_bar is not None:
        read_scale_bars(options.georeferencing.scale_bar, folder)  # as above
    if is_config(options.images.rig):
        if not Path(options.images.rig).is_file():
            raise BadFile(f"--rig {options.images.rig}: no such file, and neither auto nor off")
        read_rig_config(Path(options.images.rig))
    with disk_errors(out), FeatureDatabase.open(out / DATABASE) as db:
        remove_leftovers(out)
        source = prepare(folder, out, options.images.frames)
        for line in source.notes:
            log.warning("%s", line)
        run = Run(db, source.folder, out, options, imported, source)
        try:
            yield run
        finally:
            run.close()


def _run_stages(run: OpenRun, stop_after: str | None, on_stage: Callable[[StageSummary], None]) -> str | None:
    """Runs stage after stage; why there is no model, or None."""
    for stage in run.stages:
        try:
            on_stage(run.run_stage(stage.name))
        except NoModel as error:
            return str(error)
        if stage.name == stop_after:
            break
    return None


def _placed(run: Run, summaries: Sequence[StageSummary]) -> dict[str, Any] | None:
    """Brings the final models into metres. Known poses have the user's frame, which is kept."""
    if summaries[-1].stage != STAGE_NAMES[-1] or run.options.mapping.known_poses is not None:
        return None
    options = run.options.georeferencing
    bars = None if options.scale_bar is None else read_scale_bars(options.scale_bar, run.folder)
    return place(run.out, run.db.read_images(), gps=options.gps == "auto", bars=bars)


def _write_run_json(run: Run, given: Path, summary: ReconstructionSummary, error: str | None) -> None:
    files = (run.imported.features, run.imported.matches) if run.imported is not None else ()
    matcher = dict(run.db.provenance("matching").get("matcher", {}))
    write_run_json(
        summary,
        run.folder,
        run.out,
        run.options,
        matcher,
        error=error,
        imported=files,
        pixels=run.pixels,
        source=given,
        clips=run.source.clips,
        refused=run.db.read_refused(),
    )
