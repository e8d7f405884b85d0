"""How accurate reconstructions are: scenes with ground truth by SIFT, LoFTR unrefined and LoFTR, intrinsics known and
unknown, incremental and global mapping.

    python -m benchmarks.accuracy --out FOLDER [--datasets FOLDER] [--scenes NAME ...] [--synthetic rich low-texture]
                                  [--methods ...] [--intrinsics ...] [--mappers ...] [-- OPTIONS OF RECONSTRUCT.PY]

A scene is a folder with images/ and a COLMAP model gt/; one without gt/ is run where --scenes names it, with unknown
intrinsics. Each cell is a process of its own, `python reconstruct.py IMAGES OUT` with the cell's options, in
FOLDER/SCENE/CELL. Matching is run once a scene and matcher, from where its cells take the matches. SIFT is COLMAP's,
with COLMAP's defaults, in our pipeline; `--methods colmap` is COLMAP without any of ours (benchmarks/colmap_sift.py),
and `colmap-refined` is what `refine` makes of its model.
FOLDER/accuracy.md and FOLDER/accuracy.json are written after every cell, and hold all that FOLDER has; a cell that was
finished with the same command is not run again (delete its folder to have it run).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.accuracy_table import INTRINSICS, MAPPERS, Row, line, model_columns, read_rows, report
from benchmarks.measure import DATASETS, Measured, code_version, is_record_of, machine, run_measured
from sfm.evaluation.model import read_model

RECONSTRUCT = (sys.executable, "reconstruct.py")
SYNTHETIC = {"rich": "rich", "low-texture": "low"}


@dataclass(frozen=True)
class Method:
    """matcher: options of reconstruct.py that choose it. more: what else makes the method. module: what is run in place
    of reconstruct.py; it maps incrementally, and matches for itself. refines: the method whose model is refined.
    """

    matcher: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    module: str | None = None
    refines: str | None = None

    @property
    def is_incremental(self) -> bool:
        """Whether there is no other mapping to be had."""
        return self.module is not None or self.refines is not None


METHODS = {
    "sift-unrefined": Method(("--matcher", "sift"), ("--no-refine",)),
    "sift": Method(("--matcher", "sift")),
    "loftr-unrefined": Method(("--matcher", "loftr"), ("--no-refine",)),
    "loftr": Method(("--matcher", "loftr")),
    **{name: Method(("--matcher", name)) for name in ("loftr+sift", "xfeat", "aliked-lightglue")},
    "colmap": Method(module="benchmarks.colmap_sift"),
    "colmap-refined": Method(refines="colmap"),
}
DEFAULT_METHODS = ("sift-unrefined", "sift", "loftr-unrefined", "loftr")


@dataclass(frozen=True)
class Cell:
    """One run. scene: folder with images/ and gt/."""

    scene: Path
    method: str
    intrinsics: str
    mapper: str

    def folder(self, out: Path) -> Path:
        """Where its results are kept."""
        return out / self.scene.name / f"{self.method}-{self.intrinsics}-{self.mapper}"

    @property
    def options(self) -> list[str]:
        """Of reconstruct.py."""
        known = known_intrinsics(self.scene) if self.intrinsics == "known" else []
        mapper = [] if self.mapper == MAPPERS[0] else ["--mapper", self.mapper]
        method = METHODS[self.method]
        return [*method.matcher, *method.more, *mapper, *(known or [])]


@dataclass(frozen=True)
class Matched:
    """Matches of a scene by one matcher. seconds: of the matching stage."""

    features: Path
    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Bench:
    """What all cells of a run of the benchmark share. program: the command before IMAGES OUT. options: of it."""

    out: Path
    program: tuple[str, ...]
    options: tuple[str, ...]

    def command(self, scene: Path, folder: Path, options: Sequence[str], module: str | None = None) -> list[str]:
        """What is run for one folder of results."""
        program, more = (self.program, self.options) if module is None else ((sys.executable, "-m", module), ())
        return [*program, str((scene / "images").resolve()), str(folder), *options, *more]

    def refine_command(self, cell: Cell, model: Path, folder: Path) -> list[str]:
        """What refines a model that another cell made."""
        fixed = ["--fix-intrinsics"] if cell.intrinsics == "known" else []
        return [*self.program, "refine", str(model), str((cell.scene / "images").resolve()), str(folder), *fixed]


# What is run


def known_intrinsics(scene: Path) -> list[str] | None:
    """Options that give every image the true intrinsics; None where there is no ground truth, or images differ."""
    if not (scene / "gt").is_dir():
        return None
    ground_truth = read_model(scene / "gt")
    cameras = [ground_truth.cameras[image.camera_id] for image in ground_truth.images.values()]
    different = {(camera.model.name, tuple(camera.params)) for camera in cameras}
    if len(different) != 1:
        return None
    model, params = different.pop()
    return ["--camera-model", model, "--intrinsics", ",".join(repr(float(value)) for value in params)]


def cells_of(scene: Path, methods: Sequence[str], intrinsics: Sequence[str], mappers: Sequence[str]) -> Iterator[Cell]:
    """The scene's cells; those with known intrinsics only where they can be given."""
    possible = [kind for kind in intrinsics if kind == "unknown" or known_intrinsics(scene)]
    for mapper, kind, method in product(mappers, possible, methods):
        if mapper == MAPPERS[0] or not METHODS[method].is_incremental:
            yield Cell(scene, method, kind, mapper)


def render(texture: str, folder: Path) -> None:
    """A synthetic scene at the fixed seed 0, unless it is there; in a process of its own, so that we stay small.

    Its images have no EXIF: their focal length would be the true one, and unknown intrinsics known."""
    if (folder / "gt").is_dir():
        return
    started = folder.with_name(f"{folder.name}.started")
    shutil.rmtree(started, ignore_errors=True)
    started.mkdir(parents=True)
    script = (
        "import sys; from pathlib import Path; "
        "from sfm.datasets.courtyard.synthetic import SyntheticScene, write_scene; "
        "write_scene(SyntheticScene.render(texture=sys.argv[2], seed=0), Path(sys.argv[1]), with_exif=False)"
    )
    done = run_measured([sys.executable, "-c", script, str(started), texture], started / "log.txt")
    if done.exit_code:
        raise SystemExit(f"{started / 'log.txt'}: the scene could not be rendered (exit code {done.exit_code})")
    started.rename(folder)


# Running


def matched(bench: Bench, scene: Path, method: Method) -> Matched | None:
    """The scene's matches by the method's matcher, made unless they are there; None where matching fails."""
    folder = bench.out / scene.name / f"matches-{method.matcher[-1]}"
    command = bench.command(scene, folder, [*method.matcher, "--stop-after", "matching"])
    record = folder / "matched.json"
    if not is_record_of(record, command):
        measured = _run(command, folder)
        _write(record, {"command": command, "exit_code": measured.exit_code, "peak_mib": measured.peak_mib})
    known = json.loads(record.read_text())
    seconds = {stage["stage"]: stage["seconds"] for stage in _run_json(folder)["stages"]}
    if known["exit_code"] or "matching" not in seconds:
        return None
    return Matched(folder / "features.h5", seconds["matching"], known["peak_mib"])


def run_cell(bench: Bench, cell: Cell) -> Row:
    """Run a cell and judge its model, or read what was found before."""
    folder = cell.folder(bench.out)
    method = METHODS[cell.method]
    if method.refines is None:
        command = bench.command(cell.scene, folder, cell.options, method.module)
    else:
        model = replace(cell, method=method.refines)
        run_cell(bench, model)
        command = bench.refine_command(cell, model.folder(bench.out), folder)
    if is_record_of(folder / "row.json", command):
        return Row(**json.loads((folder / "row.json").read_text()))
    matches = matched(bench, cell.scene, method) if method.matcher else None
    measured = _run(command, folder, matches)
    if measured.exit_code:
        print(f"exit code {measured.exit_code}, see {folder / 'log.txt'}", file=sys.stderr)
    row = judge(cell, command, folder, measured, matches)
    _write(folder / "row.json", asdict(row))
    return row


def judge(cell: Cell, command: list[str], folder: Path, measured: Measured, matches: Matched | None) -> Row:
    """The Row of a finished run."""
    run = _run_json(folder)
    stages = {stage["stage"]: float(stage["seconds"]) for stage in run["stages"]}
    spent_here = sum(stage["seconds"] for stage in run["stages"] if not stage["reused"])
    if matches is not None and "matching" in stages:
        stages["matching"] = matches.seconds
    return Row(
        scene=cell.scene.name,
        method=cell.method,
        intrinsics=cell.intrinsics,
        mapper=cell.mapper,
        command=command,
        **model_columns(cell.scene, folder),
        stages=stages,
        seconds=measured.seconds - spent_here + sum(stages.values()),
        peak_mib=max(measured.peak_mib, matches.peak_mib if matches else 0.0),
        exit_code=measured.exit_code,
        made=_made(run),
    )


def _run(command: Sequence[str], folder: Path, matches: Matched | None = None) -> Measured:
    """Run a command whose results go into the folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if matches is not None:
        shutil.copyfile(matches.features, folder / "features.h5")
    return run_measured(command, folder / "log.txt")


def _run_json(folder: Path) -> dict[str, Any]:
    """What the run says of itself; a run that ended before it could has no stages."""
    path = folder / "run.json"
    run: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"stages": []}
    return run


def _made(run: dict[str, Any]) -> dict[str, str]:
    """When, where and with what. Of the weights, whose checksum is known where LoFTR matched."""
    matcher, versions = run.get("matcher", {}), run.get("versions", {})
    sha256 = matcher.get("weights_sha256")
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "code": code_version(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "weights": f"{matcher['matcher']}, sha256 {sha256}" if sha256 else "",
    }


def _write(path: Path, value: Any) -> None:
    """JSON, whole or not at all."""
    started = path.with_name(f"{path.name}.started")
    started.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    os.replace(started, path)


def write_report(out: Path, notes: Sequence[str]) -> str:
    """FOLDER/accuracy.json and FOLDER/accuracy.md of all rows in the folder; returns the latter."""
    rows = read_rows(out)
    _write(out / "accuracy.json", [asdict(row) for row in rows])
    text = report(rows, notes)
    (out / "accuracy.md").write_text(text)
    return text


# Command line


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=(__doc__ or "").split(":\n")[0].split("\n\n")[0],
        epilog="what follows -- goes to reconstruct.py",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="results; what is there is kept")
    parser.add_argument("--datasets", type=Path, default=DATASETS, metavar="FOLDER", help=f"scenes ({DATASETS})")
    parser.add_argument("--scenes", nargs="*", metavar="NAME", help="default: all that have images/ and gt/")
    parser.add_argument("--synthetic", nargs="+", choices=tuple(SYNTHETIC), default=(), help="rendered scenes as well")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=DEFAULT_METHODS)
    parser.add_argument("--intrinsics", nargs="+", choices=INTRINSICS, default=INTRINSICS)
    parser.add_argument("--mappers", nargs="+", choices=MAPPERS, default=MAPPERS)
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of reconstruct.py, after --")
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    names = args.scenes
    if names is None:
        names = sorted(path.parent.name for path in args.datasets.glob("*/gt") if (path.parent / "images").is_dir())
    args.scenes = [args.datasets / name for name in names]
    if missing := [str(scene) for scene in args.scenes if not (scene / "images").is_dir()]:
        parser.error(f"no images/ in {', '.join(missing)}")
    if not args.scenes and not args.synthetic:
        parser.error(f"{args.datasets}: no scene with images/ and gt/")
    return args


def main(argv: Sequence[str] | None = None, program: Sequence[str] = RECONSTRUCT) -> None:
    """The benchmark. program: what is run in place of `python reconstruct.py`."""
    args = parse(argv)
    scenes = [*args.scenes, *(args.out / "scenes" / f"synthetic-{name}" for name in args.synthetic)]
    for name in args.synthetic:
        render(SYNTHETIC[name], args.out / "scenes" / f"synthetic-{name}")
    args.out.mkdir(parents=True, exist_ok=True)
    unknowable = [scene.name for scene in scenes if "known" in args.intrinsics and not known_intrinsics(scene)]
    notes = [f"Images of {name} share no known intrinsics: only run with unknown ones." for name in unknowable]
    bench = Bench(args.out, tuple(program), tuple(args.options))
    for scene in scenes:
        for cell in cells_of(scene, args.methods, args.intrinsics, args.mappers):
            print(line(run_cell(bench, cell)), file=sys.stderr, flush=True)
            write_report(args.out, notes)
    print(write_report(args.out, notes))


if __name__ == "__main__":
    main()
