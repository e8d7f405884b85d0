"""What --pairs auto does: all pairs while that is cheap, else what names, times, positions and likeness speak for.

The latter are a first round: matching goes on with what the verified pairs imply (sfm.matching.growth).
"""

from __future__ import annotations

from dataclasses import replace

from sfm.pairs import exhaustive, gps, retrieval, sequential
from sfm.pairs.base import ChosenPairs, ImageSet, joined
from sfm.pairs.candidates import by_likeness, row_pairs, with_pairs
from sfm.pairs.evidence import Row, located, rows_in
from sfm.wording import counted

ALL_UP_TO = 100  # images, 4,950 pairs; docs/pairs.md
HARDLY_MORE = 1.5  # times as many pairs
GPS_NEAREST = 3, 2 * retrieval.NEIGHBOURS  # of an image: in the first round, and as candidates
SECONDS_A_PAIR = 0.2  # of a laptop's CPU
FIRST_GAPS, LATER_GAPS = (1, 2), (3, 4, 8, 16)  # places in a row


def auto(images: ImageSet) -> ChosenPairs:
    """Pairs of the images, with a line that says how they were chosen and why, where they are not all.

    Up to 100 images are matched all with all, except frames of videos, which are a row: 4,950 pairs, a quarter of an
    hour. Of more, a first round is matched and then what it implies: each image with some that look like it, with
    those near it in a row where names or times and likeness say that there is one, and with those near it by GPS where
    most images have positions and those that look alike are near each other.
    """
    num = len(images.records)
    every = num * (num - 1) // 2
    if num <= ALL_UP_TO:
        return _few(images, every)
    names, similarity = retrieval.similarity_of(images)
    first, found = by_likeness(similarity, retrieval.NEIGHBOURS)
    why = []
    rows = rows_in(images, similarity)
    if rows:
        early, late = (row_pairs(in_rows(rows, gaps), "row") for gaps in (FIRST_GAPS, LATER_GAPS))
        found = with_pairs(found, late | early, similarity, found.budget)
        first = sorted({*first, *early})
        why.append(_why_rows(rows, num))
    place = located(images, similarity)
    if place is not None:
        early, late = (row_pairs(gps.near(place, number), "near") for number in GPS_NEAREST)
        found = with_pairs(found, late, similarity, found.budget)
        first = sorted({*first, *early})
        why.append(f"near each other by GPS ({len(place.places):,} have positions, and those that look alike are near)")
    why.append("by what they look like")
    note = (
        f"pairs: {num:,} images, {' and '.join(why)}: {len(first):,} of {every:,} pairs first, then what these show, "
        f"about {found.budget:,} in all (--pairs exhaustive: {_time(every)} at {SECONDS_A_PAIR} s a pair)"
    )
    return ChosenPairs(retrieval.pairs_of(names, first), note=note, candidates=found)


def _few(images: ImageSet, every: int) -> ChosenPairs:
    """All pairs, except where frames of a video have many fewer neighbours."""
    num = len(images.records)
    if not images.clips or every <= HARDLY_MORE * len(sequential.all_neighbours(images.names)):
        return ChosenPairs(exhaustive.all_pairs(images.names))
    row = sequential.select(images)
    alone = len(images.clips) == 1 and all(name.rpartition("/")[0] in images.clips for name in images.names)
    chosen = row if alone else joined([row, retrieval.select(images)], images.names)
    what = "frames of a video" if alone else "frames of videos and other images"
    note = (
        f"pairs: {num:,} {what}, each with the next {sequential.OVERLAP}, some further ahead and those that look like "
        f"it: {len(chosen.pairs):,} of {every:,} pairs (--pairs exhaustive: {_time(every)} at {SECONDS_A_PAIR} s each)"
    )
    return replace(chosen, note=note)


def in_rows(rows: list[Row], gaps: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pairs of images that are so many places apart in a row."""
    return [(i, j) for row in rows for gap in gaps for i, j in zip(row.places[:-gap], row.places[gap:], strict=True)]


def _why_rows(rows: list[Row], num: int) -> str:
    in_rows = sum(len(row.places) for row in rows)
    videos = sum(row.by == "video" for row in rows)
    kinds = "video" if videos == len(rows) else "time" if all(row.by == "time" for row in rows) else "name"
    share = sum(row.share * len(row.places) for row in rows) / in_rows
    what = counted(len(rows), "row") if in_rows == num else f"{counted(len(rows), 'row')} of {in_rows:,} images"
    if kinds == "video":
        return f"in {what} (frames of videos)"
    return f"in {what} by {kinds} (the next one is among the most alike of {share:.0%})"


def _time(num_pairs: int) -> str:
    hours = num_pairs * SECONDS_A_PAIR / 3600
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"
