"""canvas: boxes, names that anybody may have given, and files that are what their endings say."""

import io
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from sfm.two_view.canvas import GAP, MAX_HEIGHT, WIDTH, Box, Sheet, colour_map, dimmed, row_of_boxes, short_name


def test_images_of_a_row_have_one_height_and_fill_the_width():
    sizes = [(640, 480), (300, 900), (1000, 500)]
    boxes = row_of_boxes(sizes, 7)
    assert {(box.y, box.height) for box in boxes} == {(7, boxes[0].height)}
    for box, (w, h) in zip(boxes, sizes, strict=True):
        assert box.width / box.height == pytest.approx(w / h, rel=0.01)
    assert boxes[0].x == 0
    assert boxes[-1].x + boxes[-1].width == pytest.approx(WIDTH, abs=2)
    assert boxes[1].x - boxes[0].x - boxes[0].width == pytest.approx(GAP, abs=1)


@pytest.mark.parametrize("sizes", [[(16, 5000), (16, 5000)], [(5000, 16), (5000, 16)], [(16, 5000), (5000, 16)]])
def test_strips_are_bounded(sizes):
    boxes = row_of_boxes(sizes, 0)
    assert all(1 <= box.height <= MAX_HEIGHT and 1 <= box.width <= WIDTH for box in boxes)


def test_points_on_a_box():
    at = Box(100, 50, 200, 100).at(np.array([[0, 0], [20, 10], [10, 5]]), (20, 10))
    np.testing.assert_allclose(at, [[100, 50], [300, 150], [200, 100]])


def test_a_picture_lies_on_its_box_to_the_pixel():
    sheet = Sheet(60)
    sheet.picture(np.full((10, 20, 3), (10, 200, 30), np.uint8), Box(100, 5, 40, 20))
    stream = io.BytesIO()
    sheet.figure.savefig(stream, format="png")
    pixels = np.asarray(Image.open(stream).convert("RGB"))
    assert pixels.shape == (60, WIDTH, 3)
    green = (pixels == (10, 200, 30)).all(axis=2)
    rows, columns = np.nonzero(green)
    assert green.sum() == 800
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 24, 100, 139)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.jpg", "a.jpg"),
        ("$x_1^2$ <b>&amp;</b>.jpg", "$x_1^2$ <b>&amp;</b>.jpg"),
        ("zwei\nZeilen\t.jpg", "zwei\N{REPLACEMENT CHARACTER}Zeilen\N{REPLACEMENT CHARACTER}.jpg"),
        ("Zürich.jpg", "Zürich.jpg"),
        ("Zu\u0308rich.jpg", "Zürich.jpg"),
        ("\u202egpj.exe", "\N{REPLACEMENT CHARACTER}gpj.exe"),
    ],
)
def test_names_are_plain_text(name, shown):
    assert short_name(name) == shown


def test_long_names_keep_both_ends():
    shown = short_name("a" * 100 + "z.jpg", 20)
    assert len(shown) == 20
    assert shown.startswith("aaaa")
    assert shown.endswith("z.jpg")


def test_any_name_is_drawn_without_a_warning(tmp_path):
    sheet = Sheet(80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheet.text(10, 40, short_name("$\\frac$ 寺院 \N{CAMERA} {x}.jpg"))
        sheet.save(tmp_path / "a.png")
        sheet.save(tmp_path / "a.pdf")
    assert Image.open(tmp_path / "a.png").size == (WIDTH, 80)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_equal_sheets_are_equal_files(tmp_path):
    for name in ("a", "b"):
        sheet = Sheet(80)
        sheet.plate(10, 10, "one\ntwo")
        sheet.save(tmp_path / f"{name}.png")
        sheet.save(tmp_path / f"{name}.pdf")
    for ending in ("png", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_colours_and_grey():
    np.testing.assert_allclose(colour_map("jet", np.array([0.0, 1.0])), [[0, 0, 0.5, 1], [0.5, 0, 0, 1]])
    grey = dimmed(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8))
    assert (np.ptp(grey, axis=2) == 0).all()


def test_pyplot_is_never_loaded():
    Sheet(50).plate(0, 0, "x")
    assert "matplotlib.pyplot" not in sys.modules or "open3d" in sys.modules  # Open3D loads it
