"""What only a browser can tell: that pages load in silence, draw, obey their controls and run nothing of a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sfm.evaluation.comparison import compare
from sfm.match_graph import RefusedPair, TriedPair
from sfm.report.comparison import write_comparison
from sfm.report.run import write_report
from sfm.results.files import DATABASE
from sfm.storage.database import FeatureDatabase
from sfm.types import StageSummary
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
    out = write_run(folder / "out", folder / "images")
    with FeatureDatabase.open(out / DATABASE) as db:
        pairs = [geometry.pair for geometry in db.read_two_view()]
        db.write_tried([TriedPair(p, 1 + k // 20, "alike" if k < 30 else "tie") for k, p in enumerate(pairs)])
        db.commit("matching", fingerprint="f", provenance={}, summary=StageSummary("matching", {"pairs": 36}, 1.0))
    return write_report(out)


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run against one of fewer images, with the ground truth."""
    folder = tmp_path_factory.mktemp("compare")
    a = write_run(folder / "a", folder / "images")
    b = write_run(folder / "b", folder / "images", names=NASTY[:5], matcher="sift")
    (folder / "truth").mkdir()
    synthetic_model(tuple(sorted(NASTY))).write(str(folder / "truth"))
    return write_comparison(compare([a, b], folder / "truth"), folder / "c.html", ground_truth=folder / "truth")


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


def test_what_was_tried_and_why_is_a_table(browser: Browser, run_page: Path):
    browser.open(run_page)
    draw_all(browser)
    rows = "[...document.querySelectorAll('#rounds tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    shown = browser.value(rows)
    assert [row[:3] for row in shown] == [
        ["Round 1", "look like each other", "20"],
        ["Round 2", "look like each other", "10"],
        ["", "are in parts that nothing connected", "6"],
    ]
    assert sum(int(row[3].split(" ")[0]) for row in shown) == 24
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


# Where cameras are on screen: the view, so that tests ask what a reader sees.
CAMERAS = """
(() => {{
  const view = window.scenes[{k}];
  const box = view.canvas.getBoundingClientRect();
  return view.panes().map((pane) => view.camerasIn(pane).map(({{ image, places }}) => ({{
    image,
    inside: places.every(([x, y]) => Math.abs(x - pane.x - pane.width / 2) <= pane.width / 2
      && Math.abs(y - pane.y - pane.height / 2) <= pane.height / 2),
    middle: [1, 2, 3, 4].reduce((sum, p) => [sum[0] + places[p][0] / 4, sum[1] + places[p][1] / 4], [box.x, box.y]),
  }})));
}})()
"""


@pytest.mark.parametrize("width", [1400, 820, 420])
def test_all_cameras_are_whole_in_their_panes_at_the_start(
    browser: Browser, run_page: Path, comparison_page: Path, width: int
):
    browser.size(width, 900)
    for path, panes in ((run_page, [8]), (comparison_page, [8, 5])):
        browser.open(path)
        found = browser.value(CAMERAS.format(k=0))
        assert [len(pane) for pane in found] == panes
        assert all(camera["inside"] for pane in found for camera in pane)
    browser.size(1400, 900)


def test_a_click_inside_a_camera_shows_its_image(browser: Browser, run_page: Path):
    """Inside of its outline, where no line of it is."""
    browser.open(run_page)
    browser.value("document.querySelector('.scene-frame').scrollIntoView({behavior: 'instant', block: 'center'})")
    browser.settle()
    cameras = browser.value(CAMERAS.format(k=0))[0]
    chosen = set()
    for camera in cameras:
        browser.value("window.scenes[0].choose(null)")
        browser.click(*camera["middle"])
        assert not browser.value("document.querySelector('.panel').hidden")
        chosen.add(browser.value("document.querySelector('.panel h3').textContent"))
        covered = "(b => {} > b.left && {} < b.right)(document.querySelector('.panel').getBoundingClientRect())"
        assert not browser.value(covered.format(camera["middle"][0], camera["middle"][0])), "the panel hides the camera"
    assert chosen <= set(NASTY)
    assert len(chosen) >= 6  # one may be before another
    text = browser.value("document.querySelector('.panel').textContent")
    assert "observations" in text
    assert "shares points with" in text
    assert "null" not in text
    assert browser.value("document.querySelector('.panel img').getAttribute('src')").startswith("data:image/jpeg")
    before = browser.value("document.querySelector('.panel h3').textContent")
    press = "[...document.querySelectorAll('.panel button')].find(b => b.textContent === '{}').click()"
    browser.value(press.format("Next"))
    assert browser.value("document.querySelector('.panel h3').textContent") in set(NASTY) - {before}
    browser.value(press.format("Look through it"))
    browser.settle()
    browser.value(
        "document.querySelector('.scene-canvas').dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))"
    )
    assert browser.value("document.querySelector('.panel').hidden")
    assert browser.problems() == []


CUT_OFF = """
[...document.querySelectorAll('#page *')].filter((node) => {
  if (node.closest('.scene, nav, [hidden], .pictures, thead, .names') || !node.getClientRects().length) return false;
  const style = getComputedStyle(node);
  if (style.position === 'fixed') return false;
  const box = node.getBoundingClientRect();
  return box.right > innerWidth + 1 || box.left < -1;
}).map((node) => `${node.tagName}.${node.className.baseVal ?? node.className}`)
"""


@pytest.mark.parametrize("width", [1400, 820, 420])
def test_nothing_is_cut_off(browser: Browser, run_page: Path, comparison_page: Path, width: int):
    """Tables too: where it is narrow their rows are blocks, none of them scrolls sideways."""
    browser.size(width, 900)
    for path in (run_page, comparison_page):
        browser.open(path)
        draw_all(browser, width)
        assert browser.value(CUT_OFF) == []
        assert browser.value("(n => n.scrollWidth <= n.clientWidth)(document.querySelector('nav'))")
        scrolls = (
            "[...document.querySelectorAll('.table-holder')].filter(t => t.scrollWidth > t.clientWidth + 1).length"
        )
        assert browser.value(scrolls) == 0
        tall = "[...document.querySelectorAll('.command .copy')].map(b => b.getBoundingClientRect().height)"
        heights = browser.value(tall)
        assert heights
        assert max(heights) < 45, "the word Copy on more than one line"
    browser.size(1400, 900)


def test_the_verdict_and_what_to_do_are_on_the_first_screen(browser: Browser, run_page: Path):
    browser.open(run_page)
    for selector in ("#verdict", ".scene-canvas", ".tiles", ".next .command"):
        top = browser.value(f"document.querySelector({selector!r}).getBoundingClientRect().top")
        assert 0 <= top < 700, selector
    assert browser.value("document.querySelector('#verdict').textContent").startswith("Incomplete 8 of 9 images")
    browser.value("[...document.querySelectorAll('#verdict button')].find(b => b.textContent === 'Show them').click()")
    assert browser.value("[...document.querySelectorAll('.card h3')].map(h => h.textContent)") == [LOST[0]]


def test_a_run_without_a_model_shows_its_images_and_no_figures_of_a_model(browser: Browser, tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images", error="no model: nothing overlaps; add images that overlap")
    browser.open(write_report(out))
    assert browser.value("document.querySelector('#verdict').textContent") == (
        "No model Nothing overlaps.Add images that overlap.Image by image: matched nothing. Show themWhat to do next"
    )
    assert browser.value("document.querySelectorAll('.contact-sheet img').length") == 9
    assert "px" not in browser.value("document.querySelector('.tiles').textContent")
    assert browser.problems() == []


def test_refused_pairs_are_dashed_and_named(browser: Browser, tmp_path: Path):
    out = write_run(tmp_path / "out", tmp_path / "images")
    with FeatureDatabase.open(out / DATABASE) as db:
        verified = [geometry.pair for geometry in db.read_two_view() if len(geometry.inliers)]
        db.write_refused([RefusedPair(pair, 90, 30) for pair in verified[:2]])
        db.commit("tracks", fingerprint="t", provenance={}, summary=StageSummary("tracks", {}, 0.0))
    browser.open(write_report(out))
    draw_all(browser)
    assert browser.value("document.querySelector('#refused').getAttribute('d').split('M').length") == 3
    assert browser.value("getComputedStyle(document.querySelector('#refused')).strokeDasharray") != "none"
    caption = browser.value("document.querySelector('#graph').getAttribute('aria-label')")
    assert "Dashed: 2 pairs refused, because they show places that look alike." in caption
    titles = browser.value("[...document.querySelectorAll('h3')].map(h => h.textContent)")
    assert "Refused: places that look alike" in titles
    assert browser.problems() == []


def test_it_prints_whole(browser: Browser, run_page: Path):
    """On paper: the still in place of the 3D view, every picture decoded, every keypoint drawn, nothing to click."""
    browser.open(run_page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.value("dispatchEvent(new Event('beforeprint'))")
    try:
        shown = "getComputedStyle(document.querySelector({!r})).display"
        assert browser.value(shown.format("#still")) == "block"
        for selector in (".scene-canvas", "nav", ".scene-controls", ".copy", ".toolbar"):
            assert browser.value(shown.format(selector)) == "none", selector
        assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert browser.value("document.querySelectorAll('.pair svg image').length") == 24
        blank = (
            "d => d.getContext('2d').getImageData(0, 0, d.width, d.height).data.every((v, k) => k % 4 < 3 || v === 255)"
        )
        drawn = browser.value(f"[...document.querySelectorAll('.card canvas')].map({blank})")
        assert drawn == [True] * 9, "an image was left out"
        colours = num_colours(browser.picture(".pair svg"))
        assert colours > 500
        assert num_colours(browser.picture("#still")) > 100
    finally:
        browser.size(1400, 900)


def test_without_webgl_a_picture_stands_in(browser: Browser, comparison_page: Path):
    script = (
        "HTMLCanvasElement.prototype.getContext = (own => function (kind, ...more) { return kind.startsWith('webgl')"
    )
    script += " ? null : own.call(this, kind, ...more); })(HTMLCanvasElement.prototype.getContext);"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
    try:
        browser.open(comparison_page)
        assert num_colours(browser.picture("#still")) > 100
        assert browser.value("document.querySelector('#still').alt").startswith("The models, drawn in space. LoFTR")
        assert "no WebGL" in browser.value("document.querySelector('.scene').textContent")
        assert browser.value("document.querySelectorAll('.card').length") == 9
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added)


def test_without_scripts_the_verdict_and_the_picture_are_there(browser: Browser, run_page: Path):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=run_page.as_uri())
        browser.until("document.querySelector('#still') !== null")
        assert "Incomplete: 8 of 9 images are" in browser.value("document.querySelector('noscript').textContent")
        assert browser.value("document.querySelector('#still').getBoundingClientRect().height") > 100
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_canvases_hold_pictures(browser: Browser, run_page: Path):
    browser.open(run_page)
    draw_all(browser)
    for selector, least in (("#matrix", 20), ("#graph", 20), (".pair svg", 500), (".histogram svg", 3)):
        browser.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{behavior: 'instant'}})")
        browser.settle()
        assert num_colours(browser.picture(selector)) > least, selector


def test_a_comparison_says_who_has_what(browser: Browser, comparison_page: Path):
    browser.open(comparison_page)
    assert browser.value("[...document.querySelectorAll('.group > b')].map(b => b.textContent)") == ["5", "3", "0", "1"]
    assert browser.value("document.querySelector('h1').textContent") == "LoFTR compact and SIFT"
    assert browser.value("document.querySelector('#verdict').textContent").startswith("Better LoFTR compact is better:")
    assert browser.value("document.querySelectorAll('table.truth tbody tr').length") == 8
    bars = "[...document.querySelectorAll('table.truth .meter-fill')]"
    assert browser.value(f"new Set({bars}.map(b => getComputedStyle(b).backgroundColor)).size") == 2, (
        "each model has bars of its own colour"
    )
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
    assert browser.value("document.querySelectorAll('#graph circle').length") <= 120
    assert browser.value("document.querySelector('#matrix').width") <= 150
    assert browser.value("document.querySelectorAll('#graph path').length") < 20
    took = browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
    print(f"{num} images, {path.stat().st_size / 1e6:.1f} MB: loaded in {took:.2f} s")
