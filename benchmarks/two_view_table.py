"""The rows of benchmarks/two_view.py, and the tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sfm.evaluation.model import auc

THRESHOLDS_DEG = (5.0, 10.0, 20.0)
ROTATIONS_DEG = ((0.0, 15.0), (15.0, 30.0), (30.0, 60.0))


@dataclass(frozen=True)
class Row:
    """What a method did on one pair. errors_deg: one a seed. inliers: mean over seeds. seconds: of matching."""

    scene: str
    name0: str
    name1: str
    rotation_deg: float
    errors_deg: tuple[float, ...]
    matches: int
    inliers: float
    under_1px: float
    under_3px: float
    seconds: float


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """AUCs in per cent (mean over seeds, auc5_spread: their standard deviation) and the means of the other columns."""
    errors = np.array([row.errors_deg for row in rows])  # (P, S)
    areas = np.array([[auc(seed, threshold) for threshold in THRESHOLDS_DEG] for seed in errors.T]) * 100  # (S, 3)
    out: dict[str, float] = {"pairs": len(rows)}
    out |= {f"auc{threshold:g}": float(areas[:, i].mean()) for i, threshold in enumerate(THRESHOLDS_DEG)}
    out["auc5_spread"] = float(areas[:, 0].std())
    for column in ("matches", "inliers", "under_1px", "under_3px", "seconds"):
        out[column] = float(np.mean([getattr(row, column) for row in rows]))
    return out


def by_rotation(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Summaries by relative rotation, of the bins that hold a pair."""
    bins = {f"{low:g}-{high:g}": [r for r in rows if low <= r.rotation_deg < high] for low, high in ROTATIONS_DEG}
    return {name: summarise(members) for name, members in bins.items() if members}


def triple(summary: dict[str, float]) -> str:
    return " / ".join(f"{summary[f'auc{threshold:g}']:.1f}" for threshold in THRESHOLDS_DEG)


def markdown(title: str, results: dict[str, list[Row]]) -> str:
    """Two tables of one set: all pairs, and AUC@5/10/20 by relative rotation."""
    some = next(iter(results.values()))
    bins = {label: int(s["pairs"]) for label, s in by_rotation(some).items()}
    lines = [
        f"## {title}",
        "",
        "| method | AUC@5 / 10 / 20 | ± AUC@5 | matches | under 1 px | under 3 px | inliers | s a pair |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method, rows in results.items():
        s = summarise(rows)
        lines.append(
            f"| {method} | {triple(s)} | {s['auc5_spread']:.1f} | {s['matches']:.0f} | {s['under_1px']:.0%} "
            f"| {s['under_3px']:.0%} | {s['inliers']:.0f} | {s['seconds']:.3f} |"
        )
    lines += ["", "| method | " + " | ".join(f"{label}° ({num})" for label, num in bins.items()) + " |"]
    lines += ["| --- " * (len(bins) + 1) + "|"]
    for method, rows in results.items():
        lines.append(f"| {method} | " + " | ".join(triple(s) for s in by_rotation(rows).values()) + " |")
    return "\n".join(lines) + "\n"


def as_json(results: dict[str, dict[str, list[Row]]]) -> dict[str, Any]:
    """Everything measured; infinite errors are null."""
    out: dict[str, Any] = {}
    for name, by_method in results.items():
        for method, rows in by_method.items():
            plain = [asdict(row) for row in rows]
            for row in plain:
                row["errors_deg"] = [error if np.isfinite(error) else None for error in row["errors_deg"]]
            summaries = {"all": summarise(rows), "by_rotation_deg": by_rotation(rows)}
            out.setdefault(name, {})[method] = summaries | {"pairs": plain}
    return out
