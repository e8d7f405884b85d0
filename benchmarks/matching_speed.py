"""Seconds for a 640 x 480 pair: our compact matcher beside kornia's LoFTR, in one run on the CPU.

    python -m benchmarks.matching_speed [--weights NAME|FILE|random] [--repeats N] [--threads N] [--json FILE] [A B]

The two take turns, so that what else the machine does hits both; the figure is the median of the ratios of
neighbouring turns. Ours is timed as a pair alone (two encodings and a match) and in its two parts: N images cost
N encodings, and a match for each pair. kornia.feature.LoFTR has the published architecture and random weights
(`pretrained=None`, so nothing is downloaded): it finds hardly any matches and skips most of its fine stage, which
flatters it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import DATASETS
from sfm.matchers.base import GreyImage, Matcher

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class Turn:
    """Seconds of one turn. kornia: of a pair. encode: of one image, the mean of two. match: of an encoded pair."""

    kornia: float
    encode: float
    match: float

    @property
    def ours(self) -> float:
        """Seconds of a pair alone."""
        return 2 * self.encode + self.match


def compact_matcher(weights: str) -> Matcher:
    """Ours by the name or the file of its weights; "random" for the compact network as it is initialised."""
    if weights != "random":
        from sfm.weights import load

        return load(weights)
    from sfm.matchers.loftr.config import CONFIGS
    from sfm.matchers.loftr.matcher import LoFTRMatcher
    from sfm.matchers.loftr.model import LoFTR

    torch.manual_seed(0)
    return LoFTRMatcher(LoFTR(CONFIGS["compact"]), name="loftr-compact-random", checksum="", resize=WIDTH)


def kornia_pair(images: Sequence[GreyImage]) -> Callable[[], int]:
    """A function that matches the pair by kornia's LoFTR and returns the number of matches."""
    from kornia.feature import LoFTR

    torch.manual_seed(0)
    model = LoFTR(pretrained=None).eval()
    image0, image1 = (torch.from_numpy(image)[None, None].float() / 255 for image in images)

    @torch.inference_mode()
    def match() -> int:
        return len(model({"image0": image0, "image1": image1})["keypoints0"])

    return match


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def measure(matcher: Matcher, images: Sequence[GreyImage], repeats: int) -> tuple[list[Turn], dict[str, int]]:
    """Turns after one that warms up, and the number of matches of both."""
    by_kornia = kornia_pair(images)
    turns, matches = [], {}
    for _ in range(repeats + 1):
        kornia, matches["kornia"] = timed(by_kornia)
        encode, features = timed(lambda: matcher.encode(images))
        match, found = timed(lambda f=features: matcher.match([(f[0], f[1])]))  # type: ignore[misc]
        matches["ours"] = len(found[0])
        turns.append(Turn(kornia, encode / 2, match))
    return turns[1:], matches


def markdown(name: str, turns: Sequence[Turn], matches: dict[str, int]) -> str:
    ours, kornia = (median(turn.ours for turn in turns), median(turn.kornia for turn in turns))
    encode, match = median(turn.encode for turn in turns), median(turn.match for turn in turns)
    ratio = median(turn.kornia / turn.ours for turn in turns)
    warm = median((2 * turn.encode + turn.match) / turn.match for turn in turns)
    lines = [
        f"{WIDTH} x {HEIGHT} pair on the CPU, {torch.get_num_threads()} threads, medians of {len(turns)} turns",
        "",
        "| matcher | s a pair | s an image (encode) | s a match | matches |",
        "| --- | --- | --- | --- | --- |",
        f"| kornia LoFTR (random weights) | {kornia:.3f} | | | {matches['kornia']} |",
        f"| {name} | {ours:.3f} | {encode:.3f} | {match:.3f} | {matches['ours']} |",
        "",
        f"kornia / ours: {ratio:.1f}. A pair of already encoded images takes ours {warm:.1f} times less again.",
    ]
    return "\n".join(lines)


def read_pair(paths: Sequence[Path]) -> list[GreyImage]:
    """Two images at 640 x 480, cropped to its shape about their centres."""
    images = []
    for path in paths:
        image: NDArray[Any] | None = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise SystemExit(f"{path}: no readable image; name two as arguments")
        width = min(image.shape[1], round(image.shape[0] * WIDTH / HEIGHT))
        height = round(width * HEIGHT / WIDTH)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        crop = image[top : top + height, left : left + width]
        images.append(np.asarray(cv2.resize(crop, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8))
    return images


def main(argv: Sequence[str] | None = None) -> None:
    fountain = DATASETS / "strecha_fountain_p11" / "images"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.matching_speed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="A B", help="two images of one thing")
    parser.add_argument("--weights", default="compact", metavar="NAME|FILE|random")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of torch; 0 takes its default")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if len(args.images) not in (0, 2):
        parser.error("give two images, or none")
    if args.threads:
        torch.set_num_threads(args.threads)
    matcher = compact_matcher(args.weights)
    images = read_pair(args.images or [fountain / "0004.jpg", fountain / "0005.jpg"])
    turns, matches = measure(matcher, images, args.repeats)
    print(markdown(matcher.name, turns, matches))
    if args.json:
        found = {"matcher": matcher.name, "threads": torch.get_num_threads(), "matches": matches}
        args.json.write_text(json.dumps(found | {"turns": [asdict(turn) for turn in turns]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
