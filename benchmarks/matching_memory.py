"""Peak memory of a pair of large photos with the full LoFTR network, at its full size, on the CPU.

    python -m benchmarks.matching_memory [--sides PX ...] [--config NAME] [--json FILE]

Each pair runs in a process of its own. Random weights, a random pair of overlapping photos, and a confidence threshold
of zero, so that every mutual nearest neighbour goes through the fine stage as a good match would. "Idle" is the
memory of the same process with the network built and before it sees a photo.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import run_measured


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def match_pair(side: int, config_name: str) -> dict[str, float]:
    """Match one pair of side x side photos in this process."""
    import numpy as np
    import torch
    from sfm.matchers.loftr.config import CONFIGS
    from sfm.matchers.loftr.matcher import LoFTRMatcher
    from sfm.matchers.loftr.model import LoFTR

    torch.manual_seed(0)
    model = LoFTR(replace(CONFIGS[config_name], threshold=0.0))
    matcher = LoFTRMatcher(model, name="random", checksum="", resize=0)
    idle = peak_mib()
    noise = np.random.default_rng(0).integers(0, 256, (side + side // 4, side), np.uint8)
    start = time.perf_counter()
    f0, f1 = matcher.encode([noise[:side]])[0], matcher.encode([noise[-side:]])[0]
    encoded = time.perf_counter()
    matches = matcher.match([(f0, f1)])[0]
    return {
        "side_px": side,
        "idle_mib": idle,
        "features_mib": (f0.nbytes + f1.nbytes) / 2**20,
        "matches": len(matches),
        "encode_seconds": (encoded - start) / 2,
        "match_seconds": time.perf_counter() - encoded,
    }


def measure(side: int, config_name: str) -> dict[str, Any]:
    """The same in a process of its own, with its peak memory."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "benchmarks.matching_memory", "--sides", str(side), "--config", config_name]
        measured = run_measured([*command, "--here", str(result)], Path(scratch) / "log")
        if measured.exit_code:
            raise SystemExit(f"{side} px: exit code {measured.exit_code}\n{measured.output}")
        return {**json.loads(result.read_text()), "peak_mib": measured.peak_mib}


def markdown(config_name: str, rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"pairs of square photos, network `{config_name}`, random weights, fp32 on the CPU",
        "",
        "| side px | peak MiB | idle MiB | features of a photo, MiB | matches | s a photo | s a match |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['side_px']} | {row['peak_mib']:.0f} | {row['idle_mib']:.0f} | {row['features_mib'] / 2:.0f} "
            f"| {row['matches']} | {row['encode_seconds']:.1f} | {row['match_seconds']:.1f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.matching_memory", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--sides", nargs="+", type=int, default=[2000], metavar="PX")
    parser.add_argument("--config", default="outdoor", metavar="NAME", help="outdoor (full LoFTR) or compact")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.here:
        args.here.write_text(json.dumps(match_pair(args.sides[0], args.config)))
        return
    rows = [measure(side, args.config) for side in args.sides]
    print(markdown(args.config, rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
