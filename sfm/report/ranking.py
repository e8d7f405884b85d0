"""Which of several models is better, and by how much: the strongest fact first.

Ground truth decides where there is some. Without it a model that checks found bad comes last, then the number of
registered images counts; track length, reprojection error and number of points count together or not at all, since
each alone can be had at the price of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm.evaluation.comparison import Comparison, Row, Side, table_rows
from sfm.wording import counted

NOTICEABLE = 0.01  # of an AUC
CLEARLY = 1.25  # times the other's median centre error
LABELS = ("registered images", "3D points", "mean track length", "reprojection error, px")


@dataclass(frozen=True, slots=True)
class Ranking:
    """best: number of the best model, None where none is. sentence: why, or why not."""

    best: int | None
    sentence: str


def rank(comparison: Comparison, titles: Sequence[str], warned: Sequence[bool], refused: Sequence[int] = ()) -> Ranking:
    """The models compared. titles: what to call them. warned: those that a check called probably bad. refused: of each
    the number of pairs that its run did not use, since they show places that look alike."""
    if all(side.evaluation is not None for side in comparison.sides):
        return _by_ground_truth(comparison.sides, titles)
    if any(refused) and not all(refused):
        parted = _and([f"{title} refused {counted(n, 'pair')}" for title, n in zip(titles, refused, strict=True) if n])
        others = _and([title for title, n in zip(titles, refused, strict=True) if not n])
        text = f"{parted} of places that look alike, {others} did not: look whether these are one place."
        return Ranking(None, text)
    if len(sound := [k for k, bad in enumerate(warned) if not bad]) < len(warned) and sound:
        if len(sound) == 1:
            others = _and([title for k, title in enumerate(titles) if k not in sound])
            return Ranking(sound[0], f"{titles[sound[0]]} is the one to use: checks call {others} probably bad.")
        found = _by_figures(comparison, titles, sound)
        others = _and([title for k, title in enumerate(titles) if k not in sound])
        return Ranking(found.best, f"{found.sentence} Checks call {others} probably bad.")
    return _by_figures(comparison, titles, range(len(titles)))


def _by_ground_truth(sides: Sequence[Side], titles: Sequence[str]) -> Ranking:
    found = [side.evaluation for side in sides if side.evaluation is not None]
    for deg in sorted(found[0].auc, reverse=True):
        areas = [own.auc[deg] for own in found]
        order = np.argsort([-area for area in areas], kind="stable")
        best, second = int(order[0]), int(order[1])
        if areas[best] - areas[second] >= NOTICEABLE:
            rest = _and([f"{areas[k]:.3f} of {titles[k]}" for k in order[1:]])
            counts = ""
            if len({own.registered for own in found}) > 1:
                counts = f"; it registered {found[best].registered} of {found[best].total} images, "
                counts += _and([f"{titles[k]} {found[k].registered}" for k in order[1:]])
            text = f"{titles[best]} is better: against ground truth its pose AUC at {deg:g}° is {areas[best]:.3f}"
            return Ranking(best, f"{text}, against {rest}{counts}.")
    errors = [np.inf if own.centres is None else own.centres.median_relative for own in found]
    order = np.argsort(errors, kind="stable")
    best, second = int(order[0]), int(order[1])
    if np.isfinite(errors[best]) and errors[second] > CLEARLY * errors[best]:
        rest = _and([f"{errors[k]:.2%} of {titles[k]}" for k in order[1:]])
        text = f"{titles[best]} is slightly better: equal pose AUC, but cameras {errors[best]:.2%} of the extent"
        return Ranking(best, f"{text} from the true ones (median), against {rest}.")
    deg = max(found[0].auc)
    areas_text = _and([f"{own.auc[deg]:.3f}" for own in found])
    return Ranking(None, f"Equally good: against ground truth the pose AUC at {deg:g}° is {areas_text}.")


def _by_figures(comparison: Comparison, titles: Sequence[str], among: Sequence[int]) -> Ranking:
    rows = {row.label: row for row in table_rows(comparison)}
    images = rows[LABELS[0]]
    most = max(images.values[k] for k in among)
    leading = [k for k in among if images.values[k] == most]
    if len(leading) == 1:
        rest = _and([f"{titles[k]} {images.texts[k]}" for k in among if k != leading[0]])
        return Ranking(leading[0], f"{titles[leading[0]]} has more of the images: {images.texts[leading[0]]}, {rest}.")
    who = "both" if len(leading) == 2 else "all" if len(leading) == len(titles) else str(len(leading))
    same = f"{who} registered {images.texts[leading[0]]} images"
    own = [rows[label] for label in LABELS[1:]]
    winners = [{k for k in leading if _is_top(row, k, leading)} for row in own]
    all_round = set.intersection(*winners)
    facts = [_fact(row, titles, leading) for row in own]
    said = "; ".join(fact for fact in facts if fact)
    if len(all_round) == 1 and said:
        best = all_round.pop()
        return Ranking(best, f"{titles[best]} looks better: {said}; {same}.")
    none = "Neither" if len(leading) == 2 else "None"
    return Ranking(None, f"{none} is best in everything: {said}; {same}." if said else f"No difference: {same}.")


def _is_top(row: Row, k: int, among: Sequence[int]) -> bool:
    values = [row.sign * row.values[j] for j in among if np.isfinite(row.values[j])]
    return bool(values) and row.sign * row.values[k] == max(values)


def _fact(row: Row, titles: Sequence[str], among: Sequence[int]) -> str:
    """The best value of a row and the others', "" where all are written alike."""
    if len({row.texts[k] for k in among}) == 1:
        return ""
    order = sorted(among, key=lambda k: -row.sign * row.values[k] if np.isfinite(row.values[k]) else np.inf)
    label, unit = (row.label.removesuffix(", px"), " px") if row.label.endswith(", px") else (row.label, "")
    others = [row.texts[k] for k in order[1:]]
    rest = others[0] if len(others) == 1 else f"{others[0]} to {others[-1]}"
    return f"{label} {row.texts[order[0]]}{unit} ({titles[order[0]]}) against {rest}"


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
