"""Several models of one set of images, largest first: which of them are worth keeping, and which images each has."""

from __future__ import annotations

from collections.abc import Sequence

import pycolmap


def names_of(model: pycolmap.Reconstruction) -> frozenset[str]:
    """Names of the images that are registered in a model."""
    return frozenset(model.image(i).name for i in model.reg_image_ids())


def needed(models: Sequence[pycolmap.Reconstruction], least: int = 1) -> tuple[pycolmap.Reconstruction, ...]:
    """Models without those that have fewer than `least` images that no larger one has: beginnings that mapping left."""
    kept: list[pycolmap.Reconstruction] = []
    seen: set[str] = set()
    for model in models:
        names = names_of(model)
        if not kept or len(names - seen) >= least:
            kept.append(model)
            seen |= names
    return tuple(kept)


def in_other_models(models: Sequence[pycolmap.Reconstruction]) -> dict[str, str]:
    """Of each image that is in a model, but not in the first, in which one, as a reason for the user."""
    found: dict[str, str] = {}
    for i, model in enumerate(models):
        for name in names_of(model):
            found.setdefault(name, f"in another model (sparse/{i})" if i else "")
    return {name: reason for name, reason in found.items() if reason}
