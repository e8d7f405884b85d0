from __future__ import annotations

import sys

import numpy as np
import pytest

from sfm.system.machine import machine, peak_mb, reset_peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the peak anew")
def test_peak_is_of_what_was_held_since_the_reset():
    reset_peak()
    before = peak_mb()
    block = np.ones(30_000_000)  # 240 MB
    del block
    with_block = peak_mb()
    reset_peak()
    after = peak_mb()
    assert 200 < with_block - before < 300
    assert after < with_block - 150


def test_machine_is_told_in_words():
    found = machine()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert int(found["cores"]) >= 1
    assert all(isinstance(value, str) and value for value in found.values())
