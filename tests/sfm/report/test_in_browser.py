"""What only a browser can tell: that pages load in silence, draw, obey their controls and run nothing of a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sfm.evaluation.comparison import compare
from sfm.report.comparison import write_comparison
from sfm.report.run import write_report
from tests.support.finished_run import LOST, NASTY, synthetic_model, write_run
from tests.support.headless import Browser, find_chromium
from tests.support.report_pages import large_page, large_run

COUNT = "Number(document.getElementById('drawn').dataset.drawn)"
SET = "(b => {{ b.value = {value}; b.dispatchEvent(new Event('input')); }})(document.getElementById('{id}'))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    browser.size(1400, 900)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return write_report(write_run(folder / "out", folder / "images"))


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run against one of fewer images, with the ground truth."""
    folder = tmp_path_factory.mktemp("compare")
    a = write_run(folder / "a", folder / "images")
    b = write_run(folder / "b", folder / "images", names=NASTY[:5], matcher="sift")
    (folder / "truth").mkdir()
    synthetic_model(tuple(sorted(NASTY))).write(str(folder / "truth"))
    return write_comparison(compare(a, b, folder / "truth"), folder / "c.html", ground_truth=folder / "truth")


def draw_all(browser: Browser, width: int = 1400, *, dark: bool = False) -> None:
    """Everything that is drawn when it comes near is drawn: the window is as high as the page for a moment."""
    browser.size(width, browser.value("document.documentElement.scrollHeight"), dark=dark)
    browser.settle()
    browser.size(width, 900, dark=dark)
    browser.settle()


def num_colours(picture: object) -> int:
    return len(np.unique(np.asarray(picture)[:, :, :3].reshape(-1, 3), axis=0))


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (420, True)], ids=["wide and light", "narrow and dark"])
def test_pages_load_in_silence_and_alone(
    browser: Browser, run_page: Path, comparison_page: Path, width: int, dark: bool
):
    browser.size(width, 900, dark=dark)
    for path in (run_page, comparison_page):
        browser.open(path)
        draw_all(browser, width, dark=dark)
        assert browser.problems() == []
        assert browser.requests() == [path.as_uri()]
        assert browser.value("document.documentElement.scrollWidth <= innerWidth"), "wider than the window"
    browser.size(1400, 900)


def test_a_problem_would_be_seen(browser: Browser, tmp_path: Path):
    """The silence above means something: errors, blocked loads and requests are noticed."""
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; script-src 'unsafe-inline'\">"
    bad = tmp_path / "bad.html"
    bad.write_text(f"<!doctype html><html>{policy}<img src=other.png><script>missing()</script></html>")
    browser.open(bad)
    said = " ".join(browser.problems())
    assert "missing is not defined" in said
    assert "Content Security Policy" in said
    bad.write_text("<!doctype html><img src=other.png>")
    browser.open(bad)
    assert (tmp_path / "other.png").as_uri() in browser.requests()


def test_the_3d_view_draws_points_and_cameras(browser: Browser, run_page: Path):
    browser.open(run_page)
    all_drawn = browser.picture(".scene-canvas")
    assert num_colours(all_drawn) > 200
    browser.value(SET.format(id="max-error", value=0))
    browser.settle()
    cameras_only = num_colours(browser.picture(".scene-canvas"))
    assert 1 < cameras_only < 200  # their lines and the background
    assert browser.value(COUNT) == 0


def test_filters_leave_what_they_should(browser: Browser, run_page: Path):
    browser.open(run_page)
    part = "page.models[0]"
    total = browser.value(f"{part}.error.shape[0]")
    assert browser.value(COUNT) == total > 0
    browser.value(SET.format(id="min-length", value=8))
    expected = browser.value(f"unpack({part}.length).filter(n => n >= 8).length")
    assert browser.value(COUNT) == expected
    assert 0 < expected < total or expected == total
    browser.value(SET.format(id="min-length", value=2))
    counts = []
    for value in (100, 60, 30, 10):
        browser.value(SET.format(id="max-error", value=value))
        counts.append(browser.value(COUNT))
    assert total == counts[0] > counts[1] > counts[2] > counts[3]
    assert browser.value("document.getElementById('drawn').textContent").startswith(f"{counts[3]:,} of {total:,}")


def test_names_are_text(browser: Browser, run_page: Path):
    browser.open(run_page)
    draw_all(browser)
    shown = browser.value("[...document.querySelectorAll('.card h3')].map(h => h.textContent)")
    assert shown == sorted([*NASTY, LOST[0]])
    assert browser.value("document.querySelectorAll('#page [onerror], .card script, .card b > *').length") == 0
    assert browser.value("[...document.images].every(i => i.getAttribute('src').startsWith('data:image/jpeg'))")
    browser.value("document.querySelector('.pictures').click()")
    browser.settle()
    assert browser.value("document.querySelector('dialog[open] h3').textContent") == sorted([*NASTY, LOST[0]])[0]
    assert browser.problems() == []


def test_images_are_searched_and_sorted(browser: Browser, run_page: Path):
    browser.open(run_page)
    cards = "[...document.querySelectorAll('.card h3')].map(h => h.textContent)"
    browser.value(
        "(b => { b.value = 'PLAIN'; b.dispatchEvent(new Event('input')); })(document.getElementById('search'))"
    )
    assert browser.value(cards) == ["plain 1.jpg", "plain 2.jpg", "plain 3.jpg", "plain 4.jpg"]
    assert browser.value("document.getElementById('images-shown').textContent") == "4 of 9 images"
    browser.value("(b => { b.value = ''; b.dispatchEvent(new Event('input')); })(document.getElementById('search'))")
    order = (
        "(b => {{ b.value = '{}'; b.dispatchEvent(new Event('change')); }})"
        "(document.querySelectorAll('#images select')[{}])"
    )
    browser.value(order.format("few", 0))
    names = browser.value("page.images.names")
    counts = dict(zip(names, browser.value("page.images.sides[0].observations"), strict=True))
    assert [counts[name] for name in browser.value(cards)] == sorted(counts.values())
    browser.value(order.format("out", 1))
    assert browser.value(cards) == [LOST[0]]
    assert LOST[1] in browser.value("document.querySelector('.card').textContent")


def test_a_click_on_a_camera_shows_its_image(browser: Browser, run_page: Path):
    browser.open(run_page)
    browser.value("document.querySelector('.scene-frame').scrollIntoView({behavior: 'instant', block: 'center'})")
    browser.settle()
    places = camera_pixels(browser)
    assert len(places) > 50, "no camera is seen"
    box = browser.value("(b => [b.x, b.y])(document.querySelector('.scene-canvas').getBoundingClientRect())")
    for x, y in places[:: max(1, len(places) // 40)]:
        browser.click(box[0] + x, box[1] + y)
        if not browser.value("document.querySelector('.panel').hidden"):
            break
    text = browser.value("document.querySelector('.panel').textContent")
    assert browser.value("document.querySelector('.panel h3').textContent") in NASTY
    assert "observations" in text
    assert "shares points with" in text
    assert "null" not in text
    browser.value(
        "[...document.querySelectorAll('.panel button')].find(b => b.textContent === 'Look through it').click()"
    )
    browser.settle()
    assert browser.problems() == []


def camera_pixels(browser: Browser) -> list[tuple[int, int]]:
    """(x, y) in the canvas where a camera's line is, which is bluer than it is red by just so much."""
    colour = np.array([0x5A, 0xA9, 0xFF])
    pixels = np.asarray(browser.picture(".scene-canvas").convert("RGB")).astype(int)
    y, x = np.nonzero((np.abs(pixels - colour) < 12).all(axis=2))
    return list(zip(x.tolist(), y.tolist(), strict=True))


def test_canvases_hold_pictures(browser: Browser, run_page: Path):
    browser.open(run_page)
    draw_all(browser)
    for selector, least in (("#matrix", 20), ("#graph", 20), (".pair canvas", 500), (".histogram svg", 3)):
        browser.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{behavior: 'instant'}})")
        browser.settle()
        assert num_colours(browser.picture(selector)) > least, selector


def test_a_comparison_says_who_has_what(browser: Browser, comparison_page: Path):
    browser.open(comparison_page)
    assert browser.value("[...document.querySelectorAll('.group > b')].map(b => b.textContent)") == ["5", "3", "0", "1"]
    assert browser.value("document.querySelector('h1').textContent") == "LoFTR compact and SIFT"
    assert browser.value("document.querySelectorAll('table.truth tbody tr').length") == 8
    side_by_side = num_colours(browser.picture(".scene-canvas"))
    assert side_by_side > 200
    over = (
        "(b => { b.value = 'over'; b.dispatchEvent(new Event('change')); })(document.querySelector('.fields select'))"
    )
    browser.value(over)
    browser.settle()
    assert browser.value(COUNT) == browser.value("page.models.reduce((sum, m) => sum + m.error.shape[0], 0)")
    assert 1 < num_colours(browser.picture(".scene-canvas")) < side_by_side  # two colours for two models
    assert browser.problems() == []


@pytest.mark.slow
@pytest.mark.parametrize(("num", "reach"), [(100, 100), (1000, 40)])
def test_large_pages_open(browser: Browser, tmp_path: Path, num: int, reach: int):
    """`pytest -s` prints the time from the start of the navigation until the page is laid out."""
    path = tmp_path / "large.html"
    path.write_text(large_page(large_run(tmp_path, num, reach))[1], encoding="utf-8")
    browser.open(path)
    assert browser.value("document.querySelectorAll('.card').length") == num
    assert browser.problems() == []
    took = browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
    print(f"{num} images, {path.stat().st_size / 1e6:.1f} MB: loaded in {took:.2f} s")
