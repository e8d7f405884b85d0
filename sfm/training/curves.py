"""curves.png of a training run: losses, learning rate and held-out AUC over the steps."""

from __future__ import annotations

import csv
import os
from pathlib import Path

LOG, EVALUATION, CURVES = "log.csv", "held_out.csv", "curves.png"


def draw_curves(out: Path) -> None:
    """Writes OUT/curves.png from OUT/log.csv and OUT/held_out.csv; nothing where there is no log."""
    losses = _columns(out / LOG)
    if not losses:
        return
    from matplotlib.figure import Figure

    evaluated = _columns(out / EVALUATION)
    figure = Figure(figsize=(9, 3.2 * (2 if evaluated else 1)), layout="constrained")
    axes = figure.subplots(2 if evaluated else 1, 1, squeeze=False)[:, 0]
    for name, label in (("coarse_loss", "coarse loss"), ("fine_loss", "fine loss")):
        axes[0].plot(losses["step"], losses[name], label=label)
    axes[0].set(xlabel="step", ylabel="loss", yscale="log")
    rate = axes[0].twinx()
    rate.plot(losses["step"], losses["learning_rate"], color="0.7", linewidth=1)
    rate.set_ylabel("learning rate", color="0.5")
    axes[0].legend(loc="upper right")
    if evaluated:
        for name in (name for name in evaluated if name.startswith("auc")):
            axes[1].plot(evaluated["step"], evaluated[name], marker="o", label=f"AUC@{name[3:]}°")
        axes[1].set(xlabel="step", ylabel="held-out pairs", ylim=(0, 1))
        axes[1].legend(loc="lower right")
    part = out / f"{CURVES}.part"
    figure.savefig(part, format="png", dpi=110)
    os.replace(part, out / CURVES)


def _columns(path: Path) -> dict[str, list[float]]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


def add_evaluation(out: Path, step: int, areas: tuple[float, ...], thresholds: tuple[float, ...]) -> None:
    """A line for OUT/held_out.csv; one of the same step is not written twice."""
    path = out / EVALUATION
    known = _columns(path)
    if step in known.get("step", []):
        return
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not known:
            writer.writerow(["step", *(f"auc{threshold:g}" for threshold in thresholds)])
        writer.writerow([step, *(f"{area:.4f}" for area in areas)])
