"""How a model fits the GPS positions of its images: the similarity between them, or why there is none to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sfm.geometry.similarity import RobustFit, Similarity, robust_similarity
from sfm.images.positions import Positions
from sfm.types import Float64

LEAST = 5  # positions: a similarity passes through three in any case
# Errors of one receiver within minutes are alike: no more than so many positions count as independent, and residuals
# that are smaller than its errors say little of those.
INDEPENDENT, LEAST_NOISE = 9, 0.5
MAX_SCALE_DEVIATION, MAX_TILT_DEG = 0.1, 10.0  # standard deviations up to which a frame is of use
MAX_RESIDUAL = 0.1  # median, of the positions' extent; beyond it positions and model have little in common
MOST = 0.6  # of the positions, that have to fit


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 90th percentile of residuals, m."""

    median: float
    p90: float

    @classmethod
    def of(cls, lengths: Float64) -> Spread:
        """Of lengths (N,), N > 0."""
        return cls(float(np.median(lengths)), float(np.quantile(lengths, 0.9)))


@dataclass(frozen=True, eq=False)
class GPSFit:
    """A model's camera centres against the positions of their images, in the frame of `origin`.

    names, centres (N, 3) of the model, enu (N, 3) m, sigma (N, 3) m: of images with a pose and a position that is not
    doubted. robust: what was found, None for too few. origin: (3,) latitude, longitude, altitude.
    """

    names: tuple[str, ...]
    centres: Float64
    enu: Float64
    sigma: Float64
    origin: Float64
    robust: RobustFit | None

    @cached_property
    def extent(self) -> float:
        """Median distance of the positions from their middle, horizontally, m."""
        if not len(self.enu):
            return 0.0
        return float(np.median(np.linalg.norm(self.enu[:, :2] - np.median(self.enu[:, :2], axis=0), axis=1)))

    @cached_property
    def deviations(self) -> tuple[float, float]:
        """Standard deviations of scale (relative) and of the least determined rotation (degrees)."""
        if self.robust is None:
            return np.inf, np.inf
        num = int(self.robust.inlier.sum())
        growth = max(self.robust.noise, LEAST_NOISE) * np.sqrt(max(num / INDEPENDENT, 1.0))
        return self.robust.deviations(self.centres, self.sigma * growth)

    @cached_property
    def tolerance(self) -> Float64:
        """(N,) m, horizontal: residuals up to it are what errors of GPS explain, or a slight bend of the model."""
        return np.maximum(4 * self.sigma[:, 0], MAX_RESIDUAL * self.extent)

    @cached_property
    def horizontal(self) -> Float64:
        """(N,) m, residuals; empty without a fit."""
        return np.zeros(0) if self.robust is None else np.linalg.norm(self.robust.residuals[:, :2], axis=1)

    @cached_property
    def explained(self) -> NDArray[np.bool_]:
        """(N,) which positions fit."""
        return np.asarray(self.horizontal <= self.tolerance[: len(self.horizontal)])

    @cached_property
    def reason(self) -> str:
        """Why the similarity is not to be used, for the user; "" where it is."""
        num, sigma = len(self.names), float(np.median(self.sigma[:, 0])) if len(self.sigma) else 0.0
        scale, tilt = self.deviations
        close = f"the GPS positions lie within {2 * self.extent:.1f} m, too close for errors of about {sigma:.1f} m"
        if num < LEAST:
            return f"only {num} of its images have a GPS position of their own ({LEAST} are needed)"
        if self.extent < sigma:
            return close
        if self.robust is None or (tilt > MAX_TILT_DEG and scale <= MAX_SCALE_DEVIATION):
            return "the GPS positions lie on a line, about which they do not determine a rotation"
        if self.explained.sum() < MOST * num:
            return (
                f"only {int(self.explained.sum())} of {num} GPS positions fit the model's shape (residual median "
                f"{np.median(self.horizontal):.1f} m)"
            )
        return f"{close} (scale ± {scale:.0%})" if scale > MAX_SCALE_DEVIATION else ""

    @property
    def similarity(self) -> Similarity:
        """enu_from_model."""
        assert self.robust is not None
        return self.robust.similarity

    @property
    def outliers(self) -> tuple[str, ...]:
        """Images whose positions are beyond the tolerance, the furthest first."""
        order = np.argsort(-self.horizontal, kind="stable")
        return tuple(self.names[i] for i in order if not self.explained[i])

    def spreads(self) -> dict[str, Spread]:
        """Of the residuals of all positions: "horizontal", "vertical" and "total"."""
        assert self.robust is not None
        residuals = self.robust.residuals
        return {
            "total": Spread.of(np.linalg.norm(residuals, axis=1)),
            "horizontal": Spread.of(self.horizontal),
            "vertical": Spread.of(np.abs(residuals[:, 2])),
        }


def fit_gps(names: Sequence[str], centres: Float64, positions: Positions) -> GPSFit:
    """The fit of camera centres (N, 3) of images `names` to their positions."""
    place = {name: i for i, name in enumerate(positions.names)}
    common = sorted(name for name in names if name in place)
    row_of = {name: i for i, name in enumerate(names)}
    rows = [row_of[name] for name in common]
    own = [place[name] for name in common]
    origin = positions.origin if len(positions.names) else np.zeros(3)
    source, sigma = np.asarray(centres, np.float64)[rows].reshape(-1, 3), positions.sigmas[own].reshape(-1, 3)
    target = positions.enu(origin)[own].reshape(-1, 3) if common else np.zeros((0, 3))
    robust = robust_similarity(source, target, sigma) if len(common) >= LEAST else None
    return GPSFit(tuple(common), source, target, sigma, origin, robust)
