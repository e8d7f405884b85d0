"""Large sets: time, memory and accuracy of whole runs on hundreds of images, beside COLMAP's SIFT on the same images.

    python -m benchmarks.scale --out FOLDER [--parts NAME ...] [--datasets FOLDER] [-- OPTIONS OF THE RUN]

part     every fourth image of room_1000, all pairs against those that --pairs auto chooses
room     room_1000 with defaults, and COLMAP's SIFT with sequential pairs; AUC at 5, 10 and 20 degrees
drone    seneca_drone with defaults, and COLMAP's SIFT with spatial pairs; agreement of the camera centres with GPS
mixed    the images of many scenes in one folder: which of them are found, and whether any two are joined
growth   rendered sets of 100 to 1,000 images: time an image, and peak memory

Each run is a process of its own, in FOLDER/PART/RUN; one that was finished with the same command is not repeated, and
one that was stopped goes on, with a + at its minutes, which are of the rest only.
The tables are printed and kept in FOLDER/scale.md. What a pair takes is in benchmarks/matching_speed.py, what a cluster
takes in benchmarks/cluster_speed.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pycolmap

from benchmarks.measure import DATASETS, Measured, code_version, is_record_of, machine, run_measured
from sfm.colmap.model_reader import model_folders
from sfm.errors import BadFile
from sfm.evaluation.model import evaluate, read_ground_truth, read_model
from sfm.georeferencing.placement import model_fit
from sfm.images.index import read_images_index
from sfm.images.positions import positions_of
from sfm.options import ImageOptions
from sfm.system.tables import write_json

RUN = (sys.executable, "reconstruct.py")
SIFT = (sys.executable, "-m", "benchmarks.colmap_sift")
THRESHOLDS = (5, 10, 20)  # degrees
FINE = (0, 4)  # exit codes of a model; 4: one that is probably bad
MIXED = 60  # images of a scene, the first ones by name
GROWTH = (100, 250, 500, 1000)  # images
SIZE = (480, 360)  # px of rendered images


@dataclass(frozen=True)
class Finished:
    """A run: its folder, what it took, and its run.json, {} where it wrote none. resumed: after it had been stopped."""

    folder: Path
    measured: Measured
    run: dict[str, Any]
    resumed: bool = False

    @property
    def minutes(self) -> str:
        """Wall time of the whole run, or of what was left of it."""
        return number(self.measured.seconds / 60) + "+" * self.resumed

    @property
    def peak_gb(self) -> float:
        """Peak resident memory of the process."""
        peaks = [float(stage["peak_mb"]) for stage in self.run.get("stages", ()) if stage.get("peak_mb")]
        return max([self.measured.peak_mib * 2**20 / 1e6, *peaks]) / 1000

    def stage_minutes(self, name: str) -> float:
        """Of one stage; NaN where there is none."""
        found = (stage["seconds"] / 60 for stage in self.run.get("stages", ()) if stage["stage"] == name)
        return float(next(found, float("nan")))

    @property
    def num_pairs(self) -> float:
        """Pairs that were matched; NaN where that is not known."""
        stages: list[dict[str, Any]] = self.run.get("stages", [])
        counts: dict[str, float] = next((s["counts"] for s in stages if s["stage"] == "matching"), {})
        return float(counts.get("pairs", float("nan")))


def finished(command: Sequence[str], images: Path, folder: Path, options: Sequence[str]) -> Finished:
    """The run, or what is kept of it."""
    whole = [*command, str(images), str(folder), *options]
    record, begun = (folder.with_name(folder.name + end) for end in (".json", ".begun.json"))
    if not is_record_of(record, whole):
        resumed = is_record_of(begun, whole) and folder.is_dir()
        if not resumed:
            shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_json(begun, {"command": whole})
        print(" ".join(whole), file=sys.stderr, flush=True)
        measured = run_measured(whole, folder.with_name(f"{folder.name}.txt"))
        if measured.exit_code not in FINE:
            print(f"exit code {measured.exit_code}: {folder.name}.txt", file=sys.stderr)
        write_json(record, {"command": whole, "measured": asdict(measured) | {"output": ""}, "resumed": resumed})
        begun.unlink()
    kept = json.loads(record.read_text())
    path = folder / "run.json"
    run = json.loads(path.read_text()) if path.is_file() else {}
    return Finished(folder, Measured(**kept["measured"]), run, bool(kept.get("resumed", False)))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (titles, ["---"] * len(titles), *rows)]
    return "\n".join(lines)


def number(value: float, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "–" if value != value else f"{value:,.{digits}f}"


@dataclass(frozen=True)
class Bench:
    """What all parts share. options: of our runs."""

    out: Path
    datasets: Path
    options: tuple[str, ...]

    def ours(self, images: Path, name: str, *more: str) -> Finished:
        """Our run of a folder of images."""
        return finished(RUN, images, self.out / name, [*more, *self.options])

    def colmap(self, images: Path, name: str, *more: str) -> Finished:
        """COLMAP's own."""
        return finished(SIFT, images, self.out / name, more)


def accuracy_cells(run: Finished, scene: Path, images: Path) -> list[str]:
    """Registered images, AUC, track length and number of models, of a run on some images of a scene."""
    names = {path.name for path in images.iterdir()}
    truth = {name: pose for name, pose in read_ground_truth(scene / "gt").items() if name in names}
    try:
        found = evaluate(read_model(run.folder), truth, THRESHOLDS)
    except BadFile:
        return ["0", *("–" for _ in THRESHOLDS), "–", "0"]
    areas = [number(found.auc[threshold], 3) for threshold in THRESHOLDS]
    num_models = len(model_folders(run.folder))
    return [f"{found.registered} of {len(truth)}", *areas, number(found.statistics.track_length, 2), str(num_models)]


ACCURACY = ("registered", *(f"AUC@{threshold}" for threshold in THRESHOLDS), "track length", "models")


def part(bench: Bench) -> str:
    """Every fourth image of room_1000: all pairs, and those that are chosen."""
    room = bench.datasets / "room_1000"
    images = linked(sorted((room / "images").iterdir())[::4], bench.out / "part" / "images")
    runs = {
        "all pairs": bench.ours(images, "part/all", "--pairs", "exhaustive"),
        "--pairs auto": bench.ours(images, "part/auto", "--pairs", "auto"),
    }
    rows = [
        [name, number(run.num_pairs, 0), run.minutes, *accuracy_cells(run, room, images)] for name, run in runs.items()
    ]
    num = len(list(images.iterdir()))
    return f"## {num} images of room_1000\n\n" + table(("pairs", "matched", "minutes", *ACCURACY), rows)


def room(bench: Bench) -> str:
    """All of room_1000, beside COLMAP."""
    folder = bench.datasets / "room_1000"
    runs = {
        "ours": bench.ours(folder / "images", "room/ours"),
        "COLMAP SIFT, sequential": bench.colmap(folder / "images", "room/colmap", "--pairs", "sequential"),
    }
    rows = [[name, *costs(run), *accuracy_cells(run, folder, folder / "images")] for name, run in runs.items()]
    return "## room_1000\n\n" + table(("", *COSTS, *ACCURACY), rows) + "\n\n" + stages(runs["ours"])


COSTS = ("pairs", "minutes", "peak GB")


def costs(run: Finished) -> list[str]:
    """What a run took."""
    return [number(run.num_pairs, 0), run.minutes, number(run.peak_gb)]


def stages(run: Finished) -> str:
    """Minutes of each stage in a line."""
    own = ", ".join(f"{stage['stage']} {number(stage['seconds'] / 60)}" for stage in run.run.get("stages", ()))
    return f"Minutes of ours: {own}."


def drone(bench: Bench) -> str:
    """seneca_drone: how far camera centres are from their GPS positions after a similarity, beside COLMAP."""
    images = bench.datasets / "seneca_drone" / "images"
    runs = {
        "ours": bench.ours(images, "drone/ours"),
        "COLMAP SIFT, spatial": bench.colmap(images, "drone/colmap", "--pairs", "spatial"),
    }
    positions = positions_of(read_images_index(images, ImageOptions())[0])
    rows = []
    for name, run in runs.items():
        try:
            model = read_model(run.folder)
        except BadFile:
            rows.append([name, *costs(run), "0", "–"])
            continue
        fit = model_fit(model, positions)
        distance = fit.spreads()["total"].median if fit.robust is not None else float("nan")
        rows.append([name, *costs(run), str(model.num_reg_images()), number(distance, 2)])
    titles = ("", *COSTS, "registered", "median distance to GPS, m")
    return f"## seneca_drone, {len(positions.names)} images with GPS\n\n" + table(titles, rows)


def mixed(bench: Bench) -> str:
    """The images of many scenes in one folder."""
    roots = [*sorted(bench.datasets.parent.glob("train_scenes/*/images"))]
    folder = bench.out / "mixed" / "images"
    for root in roots:
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        linked(files[:MIXED], folder, prefix=root.parent.name)
    run = bench.ours(folder, "mixed/ours")
    sizes = Counter(path.name.split("--")[0] for path in folder.iterdir())
    models = [_scenes_of(model) for model in model_folders(run.folder / "sparse")]
    rows = [
        [scene, str(num), " + ".join(str(m[scene]) for m in models if m[scene]) or "–"]
        for scene, num in sorted(sizes.items())
    ]
    joined = [" with ".join(f"{num} of {scene}" for scene, num in model.items()) for model in models if len(model) > 1]
    head = f"## {sum(sizes.values())} images of {len(sizes)} scenes in one folder\n\n"
    text = table(("scene", "images", "in models of its own images"), rows)
    return f"{head}{text}\n\nModels that join scenes: {'; '.join(joined) or 'none'}. {run.minutes} minutes."


def _scenes_of(folder: Path) -> Counter[str]:
    """Registered images of each scene."""
    model = pycolmap.Reconstruction(folder)
    return Counter(model.images[i].name.split("--")[0] for i in model.reg_image_ids())


def linked(files: Sequence[Path], folder: Path, prefix: str = "") -> Path:
    """A folder of links to files."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        link = folder / (f"{prefix}--{path.name}" if prefix else path.name)
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    return folder


_RENDER = """
import sys
from pathlib import Path
from sfm.datasets.courtyard.synthetic import SyntheticScene, write_scene
scene = SyntheticScene.render(num_images=int(sys.argv[2]), size=(int(sys.argv[3]), int(sys.argv[4])), seed=0)
write_scene(scene, Path(sys.argv[1]))
"""


def growth(bench: Bench) -> str:
    """Rendered sets of one density of views: time an image, and memory."""
    scene = bench.out / "growth" / "scene"
    if not (scene / "gt").is_dir():
        command = [sys.executable, "-c", _RENDER, str(scene), str(max(GROWTH)), *map(str, SIZE)]
        scene.parent.mkdir(parents=True, exist_ok=True)
        if run_measured(command, scene.with_name("render.txt")).exit_code:
            raise SystemExit(f"{scene.with_name('render.txt')}: the images could not be rendered")
    files = sorted((scene / "images").iterdir(), key=lambda path: int("".join(filter(str.isdigit, path.stem))))
    rows = []
    for num in GROWTH:
        images = linked(files[:num], bench.out / "growth" / f"{num}-images")
        run = bench.ours(images, f"growth/{num}")
        each = number(run.measured.seconds / num, 2)
        own = [number(60 * run.stage_minutes(stage) / num, 2) for stage in STAGES]
        rows.append(
            [str(num), str(run.run.get("registered", 0)), number(run.num_pairs, 0), each, *own, number(run.peak_gb)]
        )
    titles = ("images", "registered", "pairs", "s an image", *(f"{stage}" for stage in STAGES), "peak GB")
    return f"## Growth, rendered images of {SIZE[0]}×{SIZE[1]}\n\n" + table(titles, rows)


STAGES = ("pairs", "matching", "verification", "tracks", "mapping", "refinement")
PARTS: dict[str, Callable[[Bench], str]] = {
    "part": part,
    "room": room,
    "drone": drone,
    "mixed": mixed,
    "growth": growth,
}


def texts(bench: Bench, parts: Sequence[str]) -> Iterator[str]:
    """What is printed, part by part."""
    yield f"{machine()}; code {code_version()}; options: {' '.join(bench.options) or 'none'}"
    for name in parts:
        yield PARTS[name](bench)


def main(argv: Sequence[str] | None = None) -> None:
    """The benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="results; what is there is kept")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--datasets", type=Path, default=DATASETS, metavar="FOLDER", help=f"scenes ({DATASETS})")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of the run, after --")
    args = parser.parse_args(argv)
    bench = Bench(args.out.resolve(), args.datasets.resolve(), tuple(args.options))
    bench.out.mkdir(parents=True, exist_ok=True)
    said = []
    for text in texts(bench, args.parts):
        print(text, "\n", flush=True)
        said.append(text)
    (bench.out / "scale.md").write_text("\n\n".join(said) + "\n")


if __name__ == "__main__":
    main()
