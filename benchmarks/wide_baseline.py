"""Wide baselines, rooms, turned images: pose accuracy of weights beside each other, RootSIFT and XFeat* in one table.

    python -m benchmarks.wide_baseline [--weights NAME|FILE ...] [--sets room strecha dino temple] [--turned]
        [--resize PX] [--json F]

Protocol: that of `benchmarks.two_view` (true K, USAC_MAGSAC at 1 px of the 640 px scale, five seeds). Rows of a set
are all its pairs and those of more than 30 degrees. With --turned each pair is also matched with photo 1 turned by an
angle that its names fix, on a canvas that holds all of it; matches are mapped back before the pose is estimated, so
that nothing but the matching differs. Timing: a 640 x 480 pair with both photos encoded, alternating between the
weights, the least of several, as a ratio to the first.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.measure import DATASETS
from benchmarks.two_view import (
    LONGER_SIDE_PX,
    Array,
    MatchFn,
    PosedPair,
    View,
    evaluate_matcher,
    methods,
    read_set,
)
from benchmarks.two_view_table import Row, as_json, summarise
from sfm.geometry.poses import rotation_angle_deg

WIDE_DEG = 30.0
TIMINGS = 5


def room_pairs(datasets: Path) -> list[PosedPair]:
    """The pairs of room_1000/pairs_with_gt.txt (SuperGlue's format: names, turns, K0, K1, cam1_from_cam0)."""
    folder, known, pairs = datasets / "room_1000", {}, []
    for line in (folder / "pairs_with_gt.txt").read_text().splitlines():
        name0, name1, *numbers = line.split()
        values = np.array(numbers[2:], np.float64)
        K0, K1, pose = values[:9].reshape(3, 3), values[9:18].reshape(3, 3), values[18:34].reshape(4, 4)
        for name in (name0, name1):
            if name not in known:
                grey: Any = cv2.imread(str(folder / "images" / name), cv2.IMREAD_GRAYSCALE)
                known[name] = grey
        view0 = View("room_1000", name0, known[name0], K0 + _CORNER, np.eye(4)[:3])
        view1 = View("room_1000", name1, known[name1], K1 + _CORNER, pose[:3])
        pairs.append(PosedPair(view0, view1, float(rotation_angle_deg(pose[:3, :3]))))
    return pairs


_CORNER = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # the file's first pixel is at (0, 0)


def turned(match_fn: MatchFn) -> MatchFn:
    """The same, shown photo 1 turned by an angle that the names fix; matches are of the photo as it is."""

    def match(view0: View, view1: View) -> tuple[Array, Array]:
        height, width = view1.grey.shape
        angle = zlib.crc32(f"{view0.name} {view1.name}".encode()) % 3600 / 10
        c, s = abs(np.cos(np.radians(angle))), abs(np.sin(np.radians(angle)))
        new_w, new_h = int(width * c + height * s), int(width * s + height * c)
        to_turned = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, 1.0)
        to_turned[:, 2] += (new_w - width) / 2, (new_h - height) / 2
        grey = cv2.warpAffine(view1.grey, to_turned, (new_w, new_h), flags=cv2.INTER_AREA)
        points0, points1 = match_fn(view0, replace(view1, grey=grey, name=f"{view1.name} turned {angle}"))
        back = cv2.invertAffineTransform(to_turned)
        return points0, (points1 - 0.5) @ back[:, :2].T + back[:, 2] + 0.5

    return match


def table(results: dict[str, dict[str, list[Row]]]) -> str:
    """Markdown: a line a set and method."""
    lines = ["| set | pairs | method | AUC@5 / 10 / 20 | ± AUC@5 | matches | under 3 px |", "| --- " * 7 + "|"]
    for name, by_method in results.items():
        for label, keep in (("", 0.0), (f", over {WIDE_DEG:g}°", WIDE_DEG)):
            for method, rows in by_method.items():
                if chosen := [row for row in rows if row.rotation_deg >= keep]:
                    s = summarise(chosen)
                    lines.append(
                        f"| {name}{label} | {len(chosen)} | {method} | {s['auc5']:.1f} / {s['auc10']:.1f} / "
                        f"{s['auc20']:.1f} | {s['auc5_spread']:.1f} | {s['matches']:.0f} | {s['under_3px']:.0%} |"
                    )
    return "\n".join(lines) + "\n"


def times(names: Sequence[str], datasets: Path) -> str:
    """Seconds of a 640 x 480 pair for each weights, one after the other, and their ratio to the first."""
    from sfm import weights

    pair = room_pairs(datasets)[0]
    matchers = {name: weights.load(name) for name in names}
    best = dict.fromkeys(names, float("inf"))
    for _ in range(TIMINGS):
        for name, matcher in matchers.items():
            start = time.perf_counter()
            features = [matcher.encode([view.grey])[0] for view in (pair.view0, pair.view1)]
            matcher.match([(features[0], features[1])])
            best[name] = min(best[name], time.perf_counter() - start)
    return "\n".join(f"{name}: {t:.3f} s, {t / best[names[0]]:.2f}" for name, t in best.items()) + "\n"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wide_baseline", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--datasets", type=Path, default=DATASETS, help="folder of the scenes")
    parser.add_argument(
        "--weights", nargs="*", default=["compact"], metavar="NAME|FILE", help="ours, the old ones first"
    )
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.2], metavar="C")
    parser.add_argument("--at-least", type=int, default=0, metavar="N", help="as of `loftr-sfm evaluate pairs`")
    sets = ("room", "strecha", "dino", "temple")
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    resize = "longer side of the image that our networks see (default: %(default)s, as the others)"
    parser.add_argument("--resize", type=int, default=LONGER_SIDE_PX, metavar="PX", help=resize)
    aligned = "also as `loftr-sfm match` has them: photo 1 rotated by quarter turns where that helps, matches aligned"
    parser.add_argument("--aligned", action="store_true", help=f"{aligned} (at 640 px)")
    baselines = ("rootsift", "xfeat")
    parser.add_argument("--baselines", nargs="*", choices=baselines, default=baselines, help="beside ours; may be none")
    parser.add_argument("--sift-features", type=int, default=8192, metavar="N")
    parser.add_argument("--turned", action="store_true", help="also with photo 1 turned by any angle")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one pair in N, for a quick look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, pair by pair")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    results: dict[str, dict[str, list[Row]]] = {}
    found = methods(args)
    if args.weights:
        print(times(args.weights, args.datasets), flush=True)
    for name in args.sets:
        pairs = (room_pairs(args.datasets) if name == "room" else read_set(name, args.datasets))[:: args.every]
        results[name] = {method: evaluate_matcher(fn, pairs) for method, fn in found.items()}
        if args.turned:
            results[f"{name}, turned"] = {method: evaluate_matcher(turned(fn), pairs) for method, fn in found.items()}
        print(table({key: value for key, value in results.items() if key.startswith(name)}), flush=True)
    if args.json:
        args.json.write_text(json.dumps(as_json(results), indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
