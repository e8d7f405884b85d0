from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.report.html import SCRIPTS, STYLE, asset, has_key, key_of, pack, pack_fractions, page, write_page


@pytest.mark.parametrize(
    ("dtype", "values"), [("u1", [0, 255]), ("u2", [7, 65535]), ("u4", [1, 2**32 - 1]), ("f4", [0.5, -3])]
)
def test_arrays_come_back(dtype, values):
    packed = pack(np.array([values, values]), dtype)
    assert (packed["type"], packed["shape"]) == (dtype, [2, 2])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed["data"]), "<" + dtype), values + values)


def test_integers_are_clipped_to_what_they_can_be():
    assert base64.b64decode(pack([-5, 300], "u1")["data"]) == b"\x00\xff"


def test_fractions_are_of_width_and_height():
    packed = pack_fractions([[0, 0], [320, 120], [400, -1]], (320, 240))
    values = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(3, 2)
    np.testing.assert_array_equal(values, [[0, 0], [65535, 32768], [65535, 0]])


def test_only_the_pages_own_scripts_may_run():
    """The policy's hashes are those of the scripts as they stand in the page."""
    written = page({"title": "<t>"}, "report.js", "k")
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', written)[0]
    scripts = re.findall(r"(?s)<script>(.*?)</script>", written)
    assert len(scripts) == len(SCRIPTS) + 1
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"script-src ([^;]*)", policy) == [" ".join(f"'sha256-{own}'" for own in hashes)]
    assert "<title>&lt;t&gt;</title>" in written


def test_values_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        page({"title": "", "x": float("nan")}, "report.js", "k")


def test_key_is_found_where_it_was_written(tmp_path: Path):
    key = key_of({"a": 1})
    assert key != key_of({"a": 2})
    write_page(tmp_path / "page.html", page({"title": "x" * 5000}, "report.js", key))
    assert has_key(tmp_path / "page.html", key)
    assert not has_key(tmp_path / "page.html", key_of({"a": 2}))
    assert not has_key(tmp_path / "missing.html", key)
    with pytest.raises(BadFile, match="cannot be written"):
        write_page(tmp_path / "no" / "page.html", "")


def test_vendored_library_is_the_one_described():
    digest = hashlib.sha256(asset("three.min.js").encode()).hexdigest()
    assert f"sha256 of `three.min.js`: `{digest}`" in asset("README.md")
    assert "MIT" in asset("three.LICENSE")


def test_scripts_never_write_html():
    for name in (*(set(SCRIPTS) - {"three.min.js"}), "report.js", "compare.js"):
        text = asset(name)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name


def test_all_scripts_are_in_pages():
    kept = {entry.name for entry in (resources.files("sfm.report") / "assets").iterdir() if entry.name.endswith(".js")}
    assert kept == {*SCRIPTS, "report.js", "compare.js"}


def test_the_verdict_is_there_without_scripts_and_is_text():
    document = {
        "title": "t",
        "heading": "<b>h</b>",
        "verdict": {"label": "Good", "sentence": "<script>alert(1)</script>"},
    }
    written = page(document, "report.js", "k", ("data:image/jpeg;base64,AAAA", 'a "still" <of> it'))
    shown = re.findall(r"(?s)<noscript>(.*?)</noscript>", written)[0]
    assert "<h1>&lt;b&gt;h&lt;/b&gt;</h1>" in shown
    assert "Good: &lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert '<img id="still" src="data:image/jpeg;base64,AAAA" alt="a &quot;still&quot; &lt;of&gt; it">' in written


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb; WCAG 2.2."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(theme: str):
    """WCAG 2.2 AA: a contrast of at least 4.5."""
    light, dark = re.findall(r"(?s):root \{(.*?)\}", asset(STYLE))[:2]
    colours = dict(re.findall(r"--(\w[\w-]*): (#\w{6})", light if theme == "light" else dark))
    pairs = [(word, behind) for word in ("ink", "soft", "accent") for behind in ("page", "raised", "sunk")]
    pairs += [(f"m{k}", "page") for k in range(6)]
    pairs += [(word, f"{tone}-wash") for tone in ("good", "odd", "bad") for word in ("ink", tone, "accent")]
    weak = {}
    for word, behind in pairs:
        high, low = sorted((luminance(colours[word]), luminance(colours[behind])), reverse=True)
        if (high + 0.05) / (low + 0.05) < 4.5:
            weak[word, behind] = round((high + 0.05) / (low + 0.05), 2)
    assert weak == {}
