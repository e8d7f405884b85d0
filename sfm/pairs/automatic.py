"""What --pairs auto does: all pairs while that is cheap, else those of images in a row or that look alike."""

from __future__ import annotations

from sfm.pairs import exhaustive, retrieval, sequential
from sfm.pairs.base import ChosenPairs, ImageSet, joined

ALL_UP_TO = 100  # images, 4,950 pairs; see auto
HARDLY_MORE = 1.5  # times as many pairs
SECONDS_A_PAIR = 0.3  # of a laptop's CPU


def auto(images: ImageSet) -> ChosenPairs:
    """Pairs of the images, with a line that says how they were chosen where they are not all.

    Frames of a video are a row that may come back to a place; images beside them, and other videos, are found by what
    they look like. Up to 100 other images are matched all with all: 4,950 pairs, 25 minutes at the 0.3 s that a pair
    takes on a laptop. More are matched with the 20 that look most like them: of the ten strongest pairs of each
    image these hold 97 % (a hundred frames of a room), of all pairs a quarter at 100 images and a fortieth at 1,000.
    """
    num = len(images.records)
    every = num * (num - 1) // 2
    if images.clips:
        if every <= HARDLY_MORE * len(sequential.all_neighbours(images.names)):
            return ChosenPairs(exhaustive.all_pairs(images.names))
        row = sequential.select(images)
        alone = len(images.clips) == 1 and all(name.rpartition("/")[0] in images.clips for name in images.names)
        chosen = row if alone else joined([row, retrieval.select(images)])
        how = f"each with the next {sequential.OVERLAP}, some further ahead and those that look like it"
        what = "frames of a video" if alone else "frames of videos and other images"
        return ChosenPairs(chosen.pairs, note=_line(num, what, how, len(chosen.pairs), every))
    if num <= ALL_UP_TO:
        return ChosenPairs(exhaustive.all_pairs(images.names))
    pairs = retrieval.select(images).pairs
    how = f"each with the {retrieval.NEIGHBOURS} that look most like it, and a few that do not"
    return ChosenPairs(pairs, note=_line(num, "images", how, len(pairs), every))


def _line(num: int, what: str, how: str, num_pairs: int, every: int) -> str:
    hours = every * SECONDS_A_PAIR / 3600
    time = f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"
    return (
        f"pairs: {num:,} {what}, {how}: {num_pairs:,} of {every:,} pairs (all of them: --pairs exhaustive, {time} at "
        f"{SECONDS_A_PAIR} s each)"
    )
