"""kill -9 in the middle of matching: what was written is there, the same command carries on to the same matches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sfm.storage.database import FeatureDatabase
from tests.support.folders import ROOT

pytestmark = pytest.mark.slow

BATCH = 6  # pairs that become durable at once
PAIRS = 66
OPTIONS = ("--weights", "compact", "--device", "cpu", "--offline", "--resize", "160", "--stop-after", "matching")
TALKATIVE = f"""
import sys
from sfm.matching import match_writer
from sfm.cli.main import main
from sfm.storage.database import FeatureDatabase

match_writer.FLUSH_PAIRS = {BATCH}
write = FeatureDatabase.write_matches

def write_and_tell(self, batch, **more):
    write(self, batch, **more)
    print("durable", len(batch), flush=True)

FeatureDatabase.write_matches = write_and_tell
sys.exit(main(sys.argv[1:]))
"""


def killed_after(num_batches: int, images: Path, out: Path) -> int:
    """Pairs that were durable when the process was killed while it matched on."""
    command = [sys.executable, "-c", TALKATIVE, str(images), str(out), *OPTIONS]
    durable, batches = 0, 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("durable"):
                durable, batches = durable + int(line.split()[1]), batches + 1
            if batches == num_batches:
                process.kill()
                break
    assert process.returncode == -9
    return durable


def test_killed_run_carries_on_to_the_same_matches(loftr_sfm, demo_images, tmp_path):
    durable = killed_after(3, demo_images, tmp_path / "killed")
    assert durable < PAIRS / 2
    for out in (tmp_path / "killed", tmp_path / "whole"):
        done = loftr_sfm(demo_images, out, *OPTIONS)
        assert done.returncode == 0, done.stderr
    with (
        FeatureDatabase.open(tmp_path / "killed" / "features.h5", "r") as resumed,
        FeatureDatabase.open(tmp_path / "whole" / "features.h5", "r") as whole,
    ):
        counts = resumed.summary("matching").counts
        assert durable <= counts["reused"] < PAIRS  # at most the batch under way was matched again
        assert resumed.read_pairs() == whole.read_pairs()
        assert len(whole.read_pairs()) == PAIRS
        num = 0
        for pair in whole.read_pairs():
            ours, theirs = resumed.read_matches(pair), whole.read_matches(pair)
            for field in ("cells0", "cells1"):
                np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
            for field in ("points0", "points1", "confidence"):
                np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-3)
            num += len(theirs)
        assert num == counts["matches"] > 1000
