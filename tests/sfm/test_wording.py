from __future__ import annotations

from sfm.wording import counted, did_you_mean, nearest, some


def test_counts() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 12_345)] == ["0 images", "1 image", "2 images", "12,345 images"]
    assert [counted(n, "match", "matches") for n in (1, 2)] == ["1 match", "2 matches"]


def test_names() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert some([]) == ""


def test_what_was_meant() -> None:
    assert did_you_mean("outdor", ["indoor", "outdoor"]) == "; did you mean outdoor?"
    assert nearest("TOP", ["top", "side"]) == "top"
    assert did_you_mean("xyz", ["indoor"]) == ""
