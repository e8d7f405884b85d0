from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.report.html import asset, has_key, key_of, pack, pack_fractions, page, write_page


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
    assert len(scripts) == 8
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
    for name in ("base.js", "model.js", "scene.js", "images.js", "matches.js", "charts.js", "report.js", "compare.js"):
        text = asset(name)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
