"""The registry agrees with the configurations and with itself."""

from __future__ import annotations

import string

from sfm.matchers.loftr.config import CONFIGS
from sfm.weights.registry import REGISTRY, by_checksum


def test_every_entry_is_whole() -> None:
    assert list(REGISTRY) == ["outdoor", "indoor", "indoor_new", "minima", "compact", "compact-wide", "eloftr-outdoor"]
    for name, weights in REGISTRY.items():
        assert weights.name == name
        assert weights.config in CONFIGS or weights.matcher == "efficient-loftr"
        assert weights.licence == "Apache-2.0"
        if weights.matcher == "loftr":
            assert all(url.rsplit("/", 1)[1] == weights.file_names[0] for url in weights.urls)
        assert all(url.rsplit(".", 1)[1] == weights.file_names[0].rsplit(".", 1)[1] for url in weights.urls)
        if weights.sha256 is not None:
            assert len(weights.sha256) == 64
            assert set(weights.sha256) <= set(string.hexdigits.lower())
            assert by_checksum(weights.sha256) is weights


def test_position_encoding_is_bound() -> None:
    assert {name: CONFIGS[w.config].temp_bug_fix for name, w in REGISTRY.items() if w.matcher == "loftr"} == {
        "outdoor": False,
        "indoor": False,
        "indoor_new": True,
        "minima": True,
        "compact": True,
        "compact-wide": True,
    }


def test_unknown_checksum() -> None:
    assert by_checksum("0" * 64) is None
