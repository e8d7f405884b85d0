"""The sets by name, and how one is rendered into a folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from sfm.datasets.alike import indoors, outdoors, parts
from sfm.datasets.alike.rendering import CopyRenderer
from sfm.datasets.alike.views import AlikeSet
from sfm.datasets.courtyard.rendering import develop
from sfm.datasets.courtyard.synthetic import SyntheticScene, camera_matrix, photograph, write_scene

SIZE, FOCAL_35MM = (320, 240), 28.0
NOISE = 1.2  # grey levels

_PAIRS: dict[str, Callable[..., AlikeSet]] = {
    "four-sides": outdoors.four_sides,
    "front-and-back": outdoors.front_and_back,
    "towers": outdoors.towers,
    "towers-and-way": partial(outdoors.towers, between=True),
    "statues": outdoors.statues,
    "facade": outdoors.facade,
    "corridor": indoors.corridor,
    "rooms": indoors.rooms,
    "cup": indoors.cup,
    "books": indoors.books,
}
RECIPES: dict[str, Callable[[], AlikeSet]] = {
    **{
        f"{name}-{kind}": partial(make, mean=kind == "mean")
        for name, make in _PAIRS.items()
        for kind in ("mild", "mean")
    },
    "four-fronts": outdoors.four_fronts,
}
"""Each in two kinds: mild, where much about the places differs, and mean, where hardly anything does. `four-fronts` is
the mildest: fronts of one plan, each of another material."""


def render(made: AlikeSet, *, size: tuple[int, int] = SIZE, seed: int = 0) -> SyntheticScene:
    """Images, depths and cameras of a set; equal arguments give equal pixels."""
    renderer = CopyRenderer(made.pieces, parts.materials(), seed=seed)
    K, rng = camera_matrix(size, FOCAL_35MM), np.random.default_rng([seed, 1])
    shots = [photograph(renderer, pose, K, 0.0, size) for pose in made.poses]
    return SyntheticScene(
        names=made.names,
        images=np.stack([develop(radiance, noise=NOISE, rng=rng) for radiance, _ in shots]),
        K=K,
        radial=0.0,
        cam_from_world=made.poses,
        depths=np.stack([depth for _, depth in shots]),
        focal_35mm=FOCAL_35MM,
    )


def write(name: str, folder: Path) -> None:
    """Renders a set to folder/images, its true cameras to folder/gt, the rest of the truth to folder/truth.npz: spacing
    and models (AlikeSet), and depths (N, H, W) f16, z in the camera, m, inf where the sky is.

    The images have no EXIF.
    """
    made = RECIPES[name]()
    scene = render(made)
    write_scene(scene, folder, points_per_image=30, with_exif=False)
    depths = scene.depths.astype(np.float16)
    np.savez_compressed(folder / "truth.npz", spacing=made.spacing, models=made.models, depths=depths)
