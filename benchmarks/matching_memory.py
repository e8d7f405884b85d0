"""Peak memory of matching one pair on the CPU, by the published network with random weights.

    python -m benchmarks.matching_memory [--side PX] [--config NAME]

Memory does not depend on the weights' values. The images are encoded one after the other, as the
product does, then matched. What is printed is the resident set of the whole process at its peak
(Python, torch and weights included), in GB of 2**30 bytes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch
from sfm.matchers.loftr.config import CONFIGS
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.matchers.loftr.model import LoFTR


def peak_gb() -> float:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2000, help="side of both images, px")
    parser.add_argument("--config", choices=tuple(CONFIGS), default="outdoor")
    args = parser.parse_args()
    torch.manual_seed(0)
    matcher = LoFTRMatcher(LoFTR(CONFIGS[args.config]), name=args.config, checksum="", resize=0)
    images = [np.random.default_rng(k).integers(0, 255, (args.side, args.side), dtype=np.uint8) for k in range(2)]
    print(f"start {peak_gb():.2f} GB")
    for step, work in (("encode", lambda: matcher.encode(images)), ("match", lambda: matcher.match([tuple(features)]))):
        start = time.process_time()
        features = work()
        print(f"{step} {time.process_time() - start:.1f} s of CPU, peak {peak_gb():.2f} GB", flush=True)


if __name__ == "__main__":
    main()
