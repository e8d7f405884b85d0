"""Time of track building: 1,000 pairs of 2,000 matches over 50 images, clean and with false matches.

python -m benchmarks.tracks [--pairs 1000] [--matches 2000] [--false 0.1]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from sfm.options import TrackOptions
from sfm.tracks.building import build_tracks
from sfm.types import ImagePair, Matches, TwoViewGeometry

COLUMNS, ROWS, STEP = 80, 60, 8.0


def make_pairs(num_pairs: int, num_matches: int, share_false: float, num_images: int = 50):
    """Images that shift over one plane, matched cell to cell: anchored rows in one image, sub-pixel in the other."""
    rng = np.random.default_rng(0)
    names = [f"{i:03d}.jpg" for i in range(num_images)]
    shift = rng.uniform(0, 200, (num_images, 2))
    chosen = [(i, j) for i in range(num_images) for j in range(i + 1, num_images)][:num_pairs]
    pairs = []
    for i, j in chosen:
        cells = rng.integers(0, COLUMNS * ROWS, num_matches)
        p0 = np.stack([cells % COLUMNS + 0.5, cells // COLUMNS + 0.5], 1) * STEP
        p1 = p0 + shift[i] - shift[j] + rng.normal(0, 1.0, p0.shape)
        wrong = rng.uniform(size=num_matches) < share_false
        p1[wrong] = rng.uniform(0, 480, (wrong.sum(), 2))
        p1 = np.clip(p1, 0, [COLUMNS * STEP - 1, ROWS * STEP - 1])
        other = (p1[:, 1] // STEP).astype(int) * COLUMNS + (p1[:, 0] // STEP).astype(int)
        matches = Matches(p0, p1, rng.uniform(0.2, 1, num_matches), cells, other)
        pairs.append((TwoViewGeometry(ImagePair(names[i], names[j]), np.arange(num_matches), "uncalibrated"), matches))
    return names, pairs, dict.fromkeys(names, (STEP, STEP, COLUMNS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--matches", type=int, default=2000)
    parser.add_argument("--false", type=float, default=0.1, dest="share_false", help="share of false matches")
    args = parser.parse_args()
    print(f"{'matches':>10} {'false':>6} {'seconds':>8} {'cpu':>6} {'tracks':>8} {'mean length':>12}")
    for share in sorted({0.0, args.share_false}):
        names, pairs, grids = make_pairs(args.pairs, args.matches, share)
        started, cpu = time.perf_counter(), time.process_time()
        tracks = build_tracks(names, pairs, grids, TrackOptions()).tracks
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        length = len(tracks.image_idx) / max(len(tracks), 1)
        total = len(pairs) * args.matches
        print(f"{total:>10,} {share:>6.2f} {seconds:>8.2f} {cpu:>6.2f} {len(tracks):>8,} {length:>12.2f}")


if __name__ == "__main__":
    main()
