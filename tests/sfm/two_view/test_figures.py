"""figures: numbers do not depend on what is drawn, drawn matches are well chosen, and PDFs hold vectors."""

import re
import zlib

import numpy as np
import pytest

from sfm.geometry.epipolar import fundamental_matrix
from sfm.two_view.api import TwoViewResult
from sfm.two_view.figures import (
    EPIPOLAR_LINES,
    MAX_LINES,
    RgbPair,
    drawn_rows,
    epipolar_figure,
    furthest_apart,
    match_figure,
    spread_rows,
)
from sfm.two_view.options import FigureOptions
from sfm.types import CameraPrior, ImageRecord, Matches

SIZES = ((320, 240), (200, 300))
NUM = 900


def records():
    return tuple(
        ImageRecord(
            name, *size, CameraPrior("SIMPLE_PINHOLE", np.array([300, size[0] / 2, size[1] / 2]), True, "x"), ""
        )
        for name, size in zip(("a.jpg", "b.jpg"), SIZES, strict=True)
    )


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in SIZES]
    return RgbPair(*pixels, ("a $1.jpg", "b.jpg"))


@pytest.fixture
def result():
    """Matches on a plane parallel to the images, of which two thirds are inliers; every pair of cells twice."""
    rng = np.random.default_rng(1)
    points0 = rng.uniform(20, 180, (NUM // 2, 2)).repeat(2, axis=0)
    points1 = points0 + np.array([12.0, 0.0])
    cells = np.arange(NUM // 2).repeat(2)
    pose = np.concatenate([np.eye(3), [[1.0], [0], [0]]], 1)
    K = np.diag([300.0, 300, 1])
    return TwoViewResult(
        images=records(),
        matches=Matches(points0, points1, rng.uniform(0.2, 1, NUM // 2).repeat(2), cells, cells),
        kind="calibrated",
        inliers=np.arange(NUM) % 6 < 4,
        F=fundamental_matrix(K, K, pose),
        cam1_from_cam0=pose,
        epipolar_px=0.25,
    )


def texts(sheet):
    return "\n".join(text.get_text() for text in sheet.axes.texts)


def num_lines(sheet):
    return [len(collection.get_paths()) for collection in sheet.axes.collections if hasattr(collection, "get_segments")]


@pytest.mark.parametrize("draw", ["lines", "points"])
@pytest.mark.parametrize("limit", [None, 0, 1, 50, 10_000])
def test_numbers_do_not_depend_on_what_is_drawn(images, result, draw, limit):
    sheet = match_figure(images, result, FigureOptions(draw=draw, max_drawn=limit), "LoFTR test")
    told = texts(sheet)
    assert "LoFTR test\nMatches: 900\nInliers: 600 (67%)" in told
    drawn = sum(map(len, drawn_rows(result, FigureOptions(draw=draw, max_drawn=limit))))
    expected = {None: MAX_LINES if draw == "lines" else 450, 0: 450, 1: 1, 50: 50, 10_000: 450}[limit]
    assert drawn == expected
    assert (f"Drawn: {expected}" in told) == (expected < 450)
    if draw == "lines":
        assert sum(num_lines(sheet)) == expected


def test_inliers_and_outliers_are_drawn_in_proportion(result):
    inliers, outliers = drawn_rows(result, FigureOptions(max_drawn=60))
    assert (len(inliers), len(outliers)) == (40, 20)
    assert result.inliers[inliers].all()
    assert not result.inliers[outliers].any()
    inliers, outliers = drawn_rows(result, FigureOptions(max_drawn=60, hide_outliers=True))
    assert (len(inliers), len(outliers)) == (60, 0)


def test_lines_join_the_matched_points_in_the_colour_of_their_confidence(images, result):
    from matplotlib import colormaps

    sheet = match_figure(images, result, FigureOptions(max_drawn=0, colormap="viridis", hide_outliers=True), "x")
    (lines,) = [c for c in sheet.axes.collections if hasattr(c, "get_segments") and len(c.get_segments())]
    inliers = drawn_rows(result, FigureOptions(max_drawn=0))[0]
    height = lines.figure.axes[0].images[0].get_extent()[2]
    scale0, scale1 = height / SIZES[0][1], height / SIZES[1][1]
    order = np.argsort(result.matches.confidence[inliers], kind="stable")
    row = inliers[order[17]]
    (x0, y0), (x1, y1) = lines.get_segments()[17]
    np.testing.assert_allclose([x0, y0], result.matches.points0[row] * scale0, rtol=5e-3)
    left = lines.figure.axes[0].images[1].get_extent()[0]
    np.testing.assert_allclose([x1 - left, y1], result.matches.points1[row] * scale1, rtol=5e-3)
    colour = colormaps["viridis"](result.matches.confidence[row].astype(float))
    np.testing.assert_allclose(lines.get_colors()[17][:3], colour[:3], atol=1e-6)


def test_drawn_points_are_spread_and_the_best_of_their_place():
    rng = np.random.default_rng(0)
    crowd = rng.uniform(0, 10, (1000, 2))
    xy = np.concatenate([crowd, [[99.0, 99.0], [5.0, 90.0], [90.0, 5.0]]])
    confidence = np.concatenate([rng.uniform(0.5, 1, 1000), [0.2, 0.2, 0.2]])
    rows = spread_rows(xy, confidence, 4)
    assert set(rows) == {int(confidence.argmax()), 1000, 1001, 1002}
    np.testing.assert_array_equal(spread_rows(xy, confidence, 5000), np.arange(1003))
    assert len(spread_rows(xy, confidence, 0)) == 0
    assert len(spread_rows(np.zeros((9, 2)), np.ones(9), 4)) == 4


def test_furthest_apart():
    places = np.array([[0.0], [0.1], [1.0], [np.inf], [0.5]])
    assert furthest_apart(places, 3).tolist() == [0, 2, 4]
    assert furthest_apart(places, 9).tolist() == [0, 2, 4, 1]
    assert len(furthest_apart(np.zeros((0, 6)), 12)) == 0


def test_epipolar_lines_pass_through_their_points(images, result):
    """Cameras side by side: lines are level, and a point lies on the line of its own colour."""
    sheet = epipolar_figure(images, result)
    lines = [line for line in sheet.axes.lines if len(line.get_xdata()) == 2]
    discs = [line for line in sheet.axes.lines if len(line.get_xdata()) == 1]
    assert len(lines) == len(discs) == 2 * EPIPOLAR_LINES
    for line, disc in zip(lines, discs, strict=True):
        assert line.get_color() == disc.get_color()
        np.testing.assert_allclose(line.get_ydata(), disc.get_ydata()[0], atol=1.0)
        assert min(line.get_xdata()) <= disc.get_xdata()[0] <= max(line.get_xdata())
    assert "12 of 600 inliers" in texts(sheet)
    assert "0.25 px" in texts(sheet)


def test_no_matches_make_a_figure(images, tmp_path):
    nothing = TwoViewResult(records(), Matches.empty(), "degenerate", np.zeros(0, bool))
    for draw in ("lines", "points"):
        sheet = match_figure(images, nothing, FigureOptions(draw=draw), "SIFT")
        sheet.save(tmp_path / "a.pdf")
        assert "Matches: 0\nInliers: 0 (0%)" in texts(sheet)


def test_pdf_holds_lines_as_vectors_and_is_small(images, result, tmp_path):
    path = tmp_path / "matches.pdf"
    match_figure(images, result, FigureOptions(), "LoFTR").save(path)
    content = path.read_bytes()
    assert len(content) < 3_000_000
    assert content.count(b"/Subtype /Image") == 3  # two images and the colour bar
    drawn = b""
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            drawn += zlib.decompress(stream)
        except zlib.error:
            continue
    assert drawn.count(b" l\n") >= MAX_LINES
