"""The accuracy benchmark around a stand-in for reconstruct.py that "finds" the ground truth, and its rows."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pycolmap
import pytest

from benchmarks import accuracy
from benchmarks.accuracy_table import Row, compact_table, full_table, read_rows, report
from tests.support.folders import DEMO

STAND_IN = """\
import json, shutil, sys
from pathlib import Path

images, out = Path(sys.argv[1]), Path(sys.argv[2])
options = sys.argv[3:]
with (images.parent / "calls").open("a") as calls:
    print(out.name, *options, file=calls)
if "global" in options:
    sys.exit(1)
if "--refuse" in options and "--stop-after" in options:
    sys.exit(2)
given = (out / "features.h5").is_file()
stages = [["images", 0.5, False], ["pairs", 0.25, given], ["matching", 0.01 if given else 7.0, False]]
if "--stop-after" in options:
    assert not given
    (out / "features.h5").write_text("matches by " + options[options.index("--matcher") + 1])
else:
    if given:
        assert (out / "features.h5").read_text() == "matches by " + options[options.index("--matcher") + 1]
    stages += [["mapping", 2.0, False]] + ([] if "--no-refine" in options else [["refinement", 3.0, False]])
    shutil.copytree(images.parent / "gt", out / "sparse" / "0")
stages = [{"stage": name, "seconds": seconds, "reused": reused} for name, seconds, reused in stages]
matcher = {"matcher": "loftr-compact", "weights_sha256": "1cc2"} if "loftr" in options else {"matcher": "sift"}
(out / "run.json").write_text(json.dumps({"stages": stages, "matcher": matcher, "versions": {"torch": "2.0"}}))
"""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """The demo's ground truth, under datasets/demo; its images are not needed."""
    folder = tmp_path / "datasets" / "demo"
    (folder / "images").mkdir(parents=True)
    shutil.copytree(DEMO / "gt", folder / "gt")
    return folder


def run(scene: Path, *arguments: str) -> tuple[Path, list[str]]:
    """Runs the benchmark; its folder, and what the stand-in was called with this time."""
    out, stand_in, calls = scene.parents[1] / "out", scene.parents[1] / "stand_in.py", scene / "calls"
    stand_in.write_text(STAND_IN)
    calls.write_text("")
    accuracy.main(
        ["--out", str(out), "--datasets", str(scene.parent), *arguments], program=(sys.executable, "-S", str(stand_in))
    )
    return out, calls.read_text().splitlines()


INCREMENTAL = ("--mappers", "incremental")


def test_every_cell_is_run_once_and_matching_once_a_matcher(scene: Path) -> None:
    out, calls = run(scene, *INCREMENTAL)
    assert Counter(call.split()[0] for call in calls) == Counter(
        [
            *("matches-sift", "matches-loftr"),
            *(f"{method}-{kind}-incremental" for method in accuracy.DEFAULT_METHODS for kind in ("known", "unknown")),
        ]
    )
    by_folder = {call.split()[0]: call.split()[1:] for call in calls}
    assert by_folder["matches-sift"] == ["--matcher", "sift", "--stop-after", "matching"]
    assert by_folder["sift-unrefined-unknown-incremental"] == ["--matcher", "sift", "--no-refine"]
    assert by_folder["sift-unknown-incremental"] == ["--matcher", "sift"]
    assert by_folder["loftr-unrefined-unknown-incremental"] == ["--matcher", "loftr", "--no-refine"]
    assert by_folder["loftr-unknown-incremental"] == ["--matcher", "loftr"]
    known = by_folder["loftr-known-incremental"]
    assert known[:5] == ["--matcher", "loftr", "--camera-model", "PINHOLE", "--intrinsics"]
    ground_truth = pycolmap.Reconstruction(str(scene / "gt"))
    assert [float(value) for value in known[5].split(",")] == list(ground_truth.cameras[1].params)
    rows = read_rows(out)
    assert [row.registered for row in rows] == [12] * 8
    assert [row.auc for row in rows] == [pytest.approx({"1": 1, "3": 1, "5": 1})] * 8


def test_seconds_are_those_of_a_run_from_nothing(scene: Path) -> None:
    out, _ = run(scene, *INCREMENTAL, "--intrinsics", "unknown", "--methods", "loftr", "sift-unrefined")
    sift, loftr = read_rows(out)
    assert loftr.stages == {"images": 0.5, "pairs": 0.25, "matching": 7.0, "mapping": 2.0, "refinement": 3.0}
    assert sift.stages == {"images": 0.5, "pairs": 0.25, "matching": 7.0, "mapping": 2.0}
    # the process, less what it says to have spent itself (not the pairs, which it reused), plus all stages
    assert 7 - 0.01 + 0.25 < sift.seconds < 7 - 0.01 + 0.25 + 5
    assert loftr.peak_mib > 5


def test_a_finished_cell_is_not_run_again(scene: Path) -> None:
    out, calls = run(scene, *INCREMENTAL, "--methods", "sift", "loftr")
    assert len(calls) == 6
    assert run(scene, *INCREMENTAL, "--methods", "sift", "loftr")[1] == []
    killed = out / "demo" / "loftr-known-incremental"
    (killed / "row.json").unlink()
    (killed / "left").touch()
    assert [call.split()[0] for call in run(scene, *INCREMENTAL, "--methods", "loftr")[1]] == [killed.name]
    assert not (killed / "left").exists()
    assert len(read_rows(out)) == 4  # rows of other filters stay


def test_other_options_are_another_run(scene: Path) -> None:
    cell = (*INCREMENTAL, "--methods", "loftr", "--intrinsics", "unknown")
    run(scene, *cell)
    out, calls = run(scene, *cell, "--", "--resize", "800")
    assert calls == [
        "matches-loftr --matcher loftr --stop-after matching --resize 800",
        "loftr-unknown-incremental --matcher loftr --resize 800",
    ]
    assert [row.command[-2:] for row in read_rows(out)] == [["--resize", "800"]]


def test_a_failed_cell_is_a_row(scene: Path) -> None:
    out, _ = run(scene, "--methods", "loftr", "--intrinsics", "unknown")
    works, fails = read_rows(out)
    assert (works.mapper, works.registered, works.exit_code) == ("incremental", 12, 0)
    assert (fails.mapper, fails.registered, fails.total, fails.models, fails.exit_code) == ("global", 0, 12, 0, 1)
    assert fails.auc == {"1": 0, "3": 0, "5": 0}
    assert (fails.stages, fails.track_length, fails.centre_error) == ({}, None, None)
    written = (out / "accuracy.md").read_text()
    assert "| demo | LoFTR | unknown | global | 0/12 (exit code 1) | 0.000 / 0.000 / 0.000 | - | 0 |" in written
    assert [row["exit_code"] for row in json.loads((out / "accuracy.json").read_text())] == [0, 1]
    assert run(scene, "--methods", "loftr", "--intrinsics", "unknown")[1] == []


def test_where_matching_fails_cells_start_from_nothing(scene: Path) -> None:
    out, calls = run(scene, *INCREMENTAL, "--methods", "loftr", "--", "--refuse")
    assert sum("--stop-after" in call for call in calls) == 1
    assert [row.stages["matching"] for row in read_rows(out)] == [7.0, 7.0]


def test_images_that_differ_have_no_known_intrinsics(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ground_truth = pycolmap.Reconstruction(str(scene / "gt"))
    camera = pycolmap.Camera(ground_truth.cameras[1].todict() | {"camera_id": 2, "params": [500, 500, 320, 240]})
    ground_truth.add_camera_with_trivial_rig(camera)
    assert accuracy.known_intrinsics(scene) is not None
    changed = scene / "gt" / "cameras.txt"
    lines = changed.read_text().splitlines()
    second = lines[-1].split()
    changed.write_text("\n".join([*lines, " ".join(["2", *second[1:4], "500", *second[5:]])]) + "\n")
    images = (scene / "gt" / "images.txt").read_text().splitlines()
    first = next(k for k, text in enumerate(images) if text.endswith(".jpg"))
    fields = images[first].split()
    images[first] = " ".join([*fields[:8], "2", fields[9]])
    (scene / "gt" / "images.txt").write_text("\n".join(images) + "\n")
    for name in ("rigs.txt", "frames.txt"):
        (scene / "gt" / name).unlink()
    assert accuracy.known_intrinsics(scene) is None
    _, calls = run(scene, *INCREMENTAL, "--methods", "sift")
    assert [call.split()[0] for call in calls] == ["matches-sift", "sift-unknown-incremental"]
    assert "Images of demo share no known intrinsics" in capsys.readouterr().out


def test_scenes_without_ground_truth_are_run_where_named(scene: Path) -> None:
    shutil.copytree(scene / "gt", scene.parent / "truthless" / "gt")
    (scene.parent / "truthless" / "images").mkdir()
    (scene / "gt").rename(scene / "sparse")
    assert [folder.name for folder in accuracy.parse(["--out", "x", "--datasets", str(scene.parent)]).scenes] == [
        "truthless"
    ]
    cells = list(accuracy.cells_of(scene, ["sift"], accuracy.INTRINSICS, ["global"]))
    assert [cell.options for cell in cells] == [["--matcher", "sift", "--mapper", "global"]]


def test_colmap_itself_is_run_as_it_is(scene: Path, tmp_path: Path) -> None:
    cells = list(accuracy.cells_of(scene, ["colmap"], ["unknown"], accuracy.MAPPERS))
    assert [cell.mapper for cell in cells] == ["incremental"]
    bench = accuracy.Bench(tmp_path / "out", (), ("--resize", "800"))  # options are reconstruct.py's
    row = accuracy.run_cell(bench, cells[0])  # there are no images to make a model of
    assert row.command[1:] == ["-m", "benchmarks.colmap_sift", *row.command[3:5]]
    assert (row.registered, row.total, row.stages) == (0, 12, {})
    assert not list((tmp_path / "out" / "demo").glob("matches-*"))


def test_colmaps_model_is_refined_with_the_cameras_that_it_was_given(scene: Path, tmp_path: Path) -> None:
    cells = list(accuracy.cells_of(scene, ["colmap-refined"], accuracy.INTRINSICS, accuracy.MAPPERS))
    assert [(cell.mapper, cell.intrinsics) for cell in cells] == [("incremental", "known"), ("incremental", "unknown")]
    bench = accuracy.Bench(tmp_path, ("program",), ("--resize", "800"))
    known, unknown = (bench.refine_command(cell, Path("model"), Path("out")) for cell in cells)
    assert known == ["program", "refine", "model", str((scene / "images").resolve()), "out", "--fix-intrinsics"]
    assert unknown == known[:-1]


def test_missing_scenes_are_said(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        accuracy.parse(["--out", "x", "--datasets", str(scene.parent), "--scenes", "demo", "nowhere"])
    assert "no images/ in" in capsys.readouterr().err


ROW = Row(
    scene="demo",
    method="loftr",
    intrinsics="known",
    mapper="incremental",
    command=[],
    registered=12,
    total=12,
    models=1,
    auc={"1": 0.9, "3": 0.95, "5": 0.97},
    centre_error=0.00123,
    points3D=4321,
    observations=20000,
    track_length=4.63,
    reprojection_error=0.4567,
    stages={"images": 0.1, "matching": 6.0, "refinement": 5.0},
    seconds=14.6,
    peak_mib=700.4,
    exit_code=0,
    made={"date": "2026-11-21", "machine": "A, 2 cores, no GPU", "weights": "loftr-compact, sha256 1cc2"},
)
UNKNOWN = replace(ROW, intrinsics="unknown", registered=11, models=2, auc={"1": 0.8, "3": 0.9, "5": 0.95})


def test_the_compact_table_has_known_and_unknown_side_by_side() -> None:
    lines = compact_table([ROW, UNKNOWN, replace(ROW, method="sift", stages={})]).splitlines()
    assert len(lines) == 4
    assert lines[2] == (
        "| demo | LoFTR | 12/12 and 11/12 (2 models) | 0.900 / 0.950 / 0.970 | 0.800 / 0.900 / 0.950 "
        "| 4,321 | 4.6 | 15 | 700 |"
    )
    assert lines[3].startswith("| demo | SIFT | 12/12 | 0.900 / 0.950 / 0.970 | - | 4,321")


def test_the_full_table_has_the_seconds_of_every_stage_there_is() -> None:
    header, rule, loftr, sift = full_table([ROW, replace(ROW, method="sift", stages={"mapping": 2.0})]).splitlines()
    assert "| matching s | refinement s | mapping s | all s |" in header
    assert "images s" not in header
    assert loftr.endswith("| 0.123% | 4,321 | 20,000 | 4.63 | 0.457 | 6.0 | 5.0 | - | 14.6 | 700 |")
    assert sift.endswith("| - | - | 2.0 | 14.6 | 700 |")
    assert len({text.count("|") for text in (header, rule, loftr, sift)}) == 1


def test_the_report_says_all_that_the_rows_were_made_on() -> None:
    text = report([ROW, replace(UNKNOWN, made=ROW.made | {"date": "2026-11-22"})], ["a note"])
    assert "Measured 2026-11-21; 2026-11-22 on A, 2 cores, no GPU." in text
    assert "Weights: loftr-compact, sha256 1cc2." in text
    assert "a note" in text
