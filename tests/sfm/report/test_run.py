from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfm.errors import BadFile
from sfm.match_graph import RefusedPair, TriedPair
from sfm.report import parts as report_parts
from sfm.report import run as report
from sfm.report.parts import MAX_THUMBNAILS
from sfm.report.run import read_run, refresh, write_report
from sfm.results.files import DATABASE, RUN_JSON
from sfm.results.run_json import read_run_json
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair, StageSummary
from tests.support.finished_run import LOST, NASTY, write_run
from tests.support.report_pages import embedded, large_page, large_run, unpack


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over images with names that mean harm, its report written."""
    folder = tmp_path_factory.mktemp("run")
    out = write_run(folder / "out", folder / "holiday" / "images")
    write_report(out)
    return out


@pytest.fixture(scope="module")
def text(run_folder: Path) -> str:
    return (run_folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(text: str) -> dict[str, Any]:
    return embedded(text)


def test_names_survive_and_nothing_of_them_is_html(text: str, document: dict[str, Any]):
    assert document["images"]["names"] == sorted([*NASTY, LOST[0]])
    outside = re.sub(r'(?s)<script type="application/json".*?</script>', "", text)
    for danger in ("alert(1)", "alert(2)", "alert(3)", "<b>here", "<i>not"):
        assert danger not in outside
    assert "<" not in text.partition('id="document">')[2].partition("</script>")[0]


def test_page_asks_for_nothing(text: str):
    markup = re.sub(r"(?s)<(script|style)[^>]*>.*?</\1>", "", text)
    addresses = re.findall(r'(?:src|href|action|data)="([^"]*)"', markup)
    assert [address.partition(";")[0] for address in addresses] == ["data:,", "data:image/jpeg"]
    assert "url(" not in text.partition("<style>")[2].partition("</style>")[0]
    assert "default-src 'none'" in markup
    assert "unsafe" not in re.findall(r'Content-Security-Policy" content="([^"]*)"', markup)[0]


def test_figures_are_the_runs(document: dict[str, Any], run_folder: Path):
    record = read_run_json(run_folder)
    assert document["heading"] == "holiday"
    assert document["tiles"][0] == ["images registered", "8 / 9"]
    assert document["tiles"][1] == ["3D points", f"{record['points3D']:,}"]
    assert document["verdict"]["label"] == "Incomplete"
    assert document["verdict"]["sentence"] == "8 of 9 images are in the model; no check found a fault in it."
    said = [problem["text"] for problem in document["verdict"]["problems"] if problem["show"] == "out"]
    assert said == [f"1 of 9 images is not in the model: {LOST[1]}."]
    assert document["remarks"] == ["matched by LoFTR compact"]
    side = document["images"]["sides"][0]
    lost = document["images"]["names"].index(LOST[0])
    assert [side["registered"][lost], side["reason"][lost], side["observations"][lost]] == [False, LOST[1], 0]
    assert sum(side["observations"]) == record["observations"]
    assert document["run"]["command"].startswith("loftr-sfm ")
    assert document["run"]["command"].endswith("--resize 320")
    assert document["run"]["options"][0] == {
        "stage": "matching",
        "option": "--resize",
        "value": "320",
        "default": False,
    }
    assert [stage["peak_mb"] for stage in document["run"]["stages"]] == [100.0 + k for k in range(7)]


def test_model_and_keypoints_are_the_models(document: dict[str, Any], run_folder: Path):
    run = read_run(run_folder)
    assert run.scene is not None
    part, names = document["models"][0], document["images"]["names"]
    np.testing.assert_array_equal(unpack(part["xyz"]), run.scene.points.xyz)
    np.testing.assert_array_equal(unpack(part["rgb"]), run.scene.points.rgb)
    np.testing.assert_array_equal(unpack(part["length"]), run.scene.points.length)
    assert [names[k] for k in unpack(part["cameras"]["image"])] == list(run.scene.cameras.names)
    poses = unpack(part["cameras"]["pose"])
    np.testing.assert_allclose(poses[:, :, 3], run.scene.cameras.centres, atol=1e-5)
    own = run.scene.observations.of_camera(0)
    seen = document["images"]["sides"][0]["seen"][str(names.index(run.scene.cameras.names[0]))]
    xy = unpack(seen["xy"]) / 65535 * (320, 240)
    np.testing.assert_allclose(xy, np.clip(run.scene.observations.xy[own], 0, (320, 240)), atol=0.003)
    np.testing.assert_allclose(
        unpack(seen["error"]) / 255 * 4, np.minimum(run.scene.observations.error[own], 4), atol=0.01
    )
    assert sum(document["histograms"]["length"]["counts"]) == len(run.scene.points.xyz)
    assert sum(document["histograms"]["error"]["counts"]) == len(run.scene.points.xyz)


def test_pairs_are_the_databases(document: dict[str, Any], run_folder: Path):
    run, names = read_run(run_folder), document["images"]["names"]
    i, j, matches, inliers = (unpack(document["pairs"][name]) for name in ("i", "j", "matches", "inliers"))
    found = {ImagePair(names[a], names[b]): (m, n) for a, b, m, n in zip(i, j, matches, inliers, strict=True)}
    assert found == {pair: (count, len(run.geometries[pair].inliers)) for pair, count in run.counts.items()}
    drawn = document["drawn"]
    assert [pair["role"] for pair in drawn] == ["strongest"] * 4 + ["weakest"] * 4 + ["rejected"] * 4
    assert drawn[0]["inliers"] == inliers.max()
    assert drawn[4]["inliers"] == inliers[inliers > 0].min()
    assert [pair["inliers"] for pair in drawn[8:]] == [0] * 4
    assert drawn[8]["matches"] == matches[inliers == 0].max()
    for pair in drawn:
        assert len(unpack(pair["confidence"])) == min(200, pair["matches"]) == len(unpack(pair["a"]))
    with FeatureDatabase.open(run_folder / DATABASE, "r") as db:
        original = db.read_matches(ImagePair(names[drawn[4]["i"]], names[drawn[4]["j"]]))
    np.testing.assert_allclose(unpack(drawn[4]["a"]) / 65535 * (320, 240), original.points0, atol=0.003)
    np.testing.assert_array_equal(np.flatnonzero(unpack(drawn[4]["inlier"])), np.arange(drawn[4]["inliers"]))


def test_thumbnails_are_the_images(document: dict[str, Any], run_folder: Path):
    urls = document["images"]["thumbnails"]
    assert len(urls) == 9
    image = Image.open(io.BytesIO(base64.b64decode(urls["3"].partition(",")[2])))
    folder = Path(str(read_run_json(run_folder)["images_folder"]))
    with Image.open(folder / document["images"]["names"][3]) as original:
        assert image.size == original.size == (320, 240)
        assert np.abs(np.asarray(image, float) - np.asarray(original, float)).mean() < 8


def test_without_images_there_is_a_report_that_says_so(tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images")
    shutil.rmtree(tmp_path / "images")
    written = embedded(write_report(out).read_text())
    assert written["images"]["thumbnails"] == {}
    assert any("no thumbnails" in remark for remark in written["remarks"])
    assert len(written["drawn"]) == 12


def test_what_was_tried_and_why_is_in_the_report(tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images")
    assert embedded(write_report(out).read_text())["pairs"]["rounds"] == []  # the pairs were given
    with FeatureDatabase.open(out / "features.h5") as db:
        pairs = [geometry.pair for geometry in db.read_two_view()]
        verified = [len(geometry.inliers) > 0 for geometry in db.read_two_view()]
        reasons = ["alike"] * 20 + ["shared"] * 10 + ["tie"] * 6
        rounds = [1] * 20 + [2] * 16
        db.write_tried([TriedPair(*each) for each in zip(pairs, rounds, reasons, strict=True)])
        db.commit("matching", fingerprint="f", provenance={}, summary=StageSummary("matching", {"pairs": 36}, 1.0))
    assert embedded(write_report(out).read_text())["pairs"]["rounds"] == [
        [1, "look like each other", 20, sum(verified[:20])],
        [2, "show the same place as the same others", 10, sum(verified[20:30])],
        [2, "are in parts that nothing connected", 6, sum(verified[30:])],
    ]


def test_refused_pairs_are_marked_and_drawn_as_refused(tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images")
    with FeatureDatabase.open(out / DATABASE) as db:
        verified = [g.pair for g in db.read_two_view() if len(g.inliers)]
        db.write_refused([RefusedPair(verified[0], 120, 30)])
        db.commit("tracks", fingerprint="t", provenance={}, summary=StageSummary("tracks", {}, 0.0))
    write_report(out)
    page = embedded((out / "report.html").read_text(encoding="utf-8"))
    names, pairs = page["images"]["names"], page["pairs"]
    i, j, inliers = (unpack(pairs[name]) for name in ("i", "j", "inliers"))
    (row,) = pairs["refused"]
    assert {names[i[row]], names[j[row]]} == {verified[0].name0, verified[0].name1}
    assert inliers[row] == 0
    assert np.count_nonzero(inliers) == len(verified) - 1
    (drawn,) = [pair for pair in page["drawn"] if pair["role"] == "alike"]
    assert (drawn["i"], drawn["j"], drawn["inliers"]) == (i[row], j[row], 0)
    assert drawn["kind"].startswith("two places that look alike")


def test_without_a_model_the_report_says_why(tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images", error="too few matches between the images")
    written = embedded(write_report(out).read_text())
    assert written["models"] == []
    assert written["verdict"]["label"] == "No model"
    assert written["verdict"]["sentence"] == "Too few matches between the images."
    assert {"images": "9", "pairs matched": "36", "pairs verified": "24"}.items() <= dict(written["tiles"]).items()
    assert not any("px" in value for _, value in written["tiles"]), "0.00 px would be an error of nothing"
    assert 'id="still"' not in (out / "report.html").read_text()
    assert set(written["images"]["sides"][0]["reason"]) == {"matched nothing"}
    assert len(written["drawn"]) == 12


def test_a_report_is_rewritten_only_where_it_is_stale(tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images")
    refresh(out)
    path = out / "report.html"
    inode = path.stat().st_ino
    record = json.loads((out / RUN_JSON).read_text())
    for stage in record["stages"]:
        stage["reused"] = True
    (out / RUN_JSON).write_text(json.dumps(record))
    refresh(out)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime_ns >= (out / RUN_JSON).stat().st_mtime_ns
    moved = out.rename(tmp_path / "moved")
    refresh(moved)
    assert f"loftr-sfm view {moved}" in (moved / "report.html").read_text(), "commands with the paths of before"
    moved.rename(out)
    refresh(out)
    inode = path.stat().st_ino
    record["points3D"] += 1
    (out / RUN_JSON).write_text(json.dumps(record))
    refresh(out)
    assert path.stat().st_ino != inode


def test_a_run_does_not_fail_of_its_report(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = write_run(tmp_path / "out", tmp_path / "images")
    (out / "sparse" / "0" / "cameras.bin").unlink()
    refresh(out)
    assert "no report" in caplog.text
    assert not (out / "report.html").exists()


def test_images_that_are_not_there_are_an_error_where_they_were_named(run_folder: Path, tmp_path: Path):
    with pytest.raises(BadFile, match=r"--images .*nosuch: no such folder; give the folder of the images"):
        write_report(run_folder, tmp_path / "nosuch")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(BadFile, match=r"run\.json: missing or damaged; give the output folder of a run"):
        write_report(tmp_path)


def test_a_hundred_images_fit(tmp_path: Path):
    made, written = large_page(large_run(tmp_path, 100, reach=100))
    assert 1e6 < len(written) <= 20e6
    assert len(made["images"]["thumbnails"]) == 100
    assert unpack(made["models"][0]["xyz"]).shape == (300_000, 3)
    assert made["remarks"][1:] == ["3D view of a fair sample: 300,000 of 400,000 points"]


@pytest.mark.slow
def test_of_a_thousand_images_a_sample_has_thumbnails(tmp_path: Path):
    made, written = large_page(large_run(tmp_path, 1000, reach=40))
    assert 1e6 < len(written) <= 20e6
    assert len(made["images"]["thumbnails"]) <= MAX_THUMBNAILS
    drawn = {k for pair in made["drawn"] for k in (pair["i"], pair["j"])}
    assert {str(k) for k in drawn} <= made["images"]["thumbnails"].keys()
    assert re.match(r"thumbnails and keypoints of a sample only: \d+ of 1,000 images", made["remarks"][1])
    assert len(unpack(made["pairs"]["i"])) == len(large_pairs(1000, 40))


def large_pairs(num: int, reach: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(num) for j in range(i + 1, min(num, i + 1 + reach))]


def test_images_that_stand_out_are_marked():
    counts = np.array([100, 110, 90, 10, 100])
    errors = np.array([0.5, 0.6, 0.5, 0.5, 1.4])
    warnings = report_parts.warnings_of(counts, errors)
    assert warnings[:3] == ["", "", ""]
    assert warnings[3] == "few observations: 10, the median image has 100"
    assert warnings[4] == "large error: 1.40 px, the median image has 0.50 px"


def test_durations():
    assert [report.duration(s) for s in (0.24, 61, 600, 9000)] == ["0.2 s", "61 s", "10 min", "2.5 h"]
