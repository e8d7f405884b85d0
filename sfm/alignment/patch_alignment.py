"""Photometric alignment of small patches: the sub-pixel position of a point of one image in another.

The patch around the reference point is warped into the other image by an affine map and moved until both agree best,
up to brightness and contrast: the inverse compositional algorithm (Baker and Matthews, Lucas-Kanade 20 years on,
IJCV 2004) for a weighted window and zero-mean, unit-variance patches, with Gaussian priors on the position and on the
shape. Where a patch carries no information (a blank wall, or along an edge) the prior dominates, and the information
matrix of each position reflects this. Pixels are COLMAP's (sfm.types), of the images that the pyramids are made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.alignment.pyramids import NUM_LEVELS, Pyramid

WINDOW_RADIUS = 7  # px; 15 x 15
MAX_SCALE = 2.0 ** (NUM_LEVELS - 2)  # patches that are seen larger or smaller than this are not compared
PRIOR_SIGMA = 2.0  # deviations of a match: how far a matcher's positions are off, and along an edge stay off
NOISE_GAIN = 3.0  # neighbouring pixels of a blurred image repeat each other: residuals count this much less
NOISE_FLOOR = 1.0  # grey levels
SHAPE_SIGMA = 0.1  # relative: how far the affine map may be from the geometry's
MAX_STEP = 2.0  # px of the level, of one iteration
ITERATIONS = 5
TOLERANCE = 0.02  # px; when the whole batch moves less, it is done


@dataclass(frozen=True, slots=True)
class Window:
    """Offsets of a patch's K samples from its middle, x and y (K,), and their weights (K,), whose sum is one."""

    radius: int
    x: Tensor
    y: Tensor
    weight: Tensor

    @classmethod
    def of_radius(cls, radius: int, device: str = "cpu") -> Window:
        """A square of 2 radius + 1 samples a side under a Gaussian."""
        steps = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
        y, x = (axis.reshape(-1) for axis in torch.meshgrid(steps, steps, indexing="ij"))
        weight = torch.exp(-(x**2 + y**2) / (2 * (0.6 * radius) ** 2))
        return cls(radius, x, y, weight / weight.sum())

    @property
    def side(self) -> int:
        """Samples a side of the patches that templates are made of: one more all around, for their gradients."""
        return 2 * self.radius + 3


def cut_patches(pyramid: Pyramid, xy: Tensor, level: Tensor, window: Window) -> Tensor:
    """Patches (N, side, side) f32 around xy (N, 2) px, samples 2**level px apart, from that level. level: (N,) i64."""
    steps = torch.arange(-window.radius - 1, window.radius + 2, dtype=torch.float32, device=xy.device)
    spacing = (2.0**level).to(xy.dtype)[:, None, None]
    x = xy[:, 0, None, None] + spacing * steps[None, None, :].expand(1, window.side, -1)
    y = xy[:, 1, None, None] + spacing * steps[None, :, None].expand(1, -1, window.side)
    return pyramid.sample(level, x.flatten(1), y.flatten(1)).reshape(-1, window.side, window.side)


@dataclass(frozen=True, slots=True)
class Templates:
    """N patches ready for alignment. values (N, K): zero mean. norm: (N,) standard deviation. gradient_x, gradient_y
    (N, K), times the weights. hessian: (N, 6, 6) of the affine map's parameters, brightness and contrast taken out."""

    values: Tensor
    norm: Tensor
    gradient_x: Tensor
    gradient_y: Tensor
    hessian: Tensor

    @classmethod
    def of(cls, patches: Tensor, window: Window) -> Templates:
        """patches: (N, side, side)."""
        gradient_x = ((patches[:, 1:-1, 2:] - patches[:, 1:-1, :-2]) / 2).flatten(1)
        gradient_y = ((patches[:, 2:, 1:-1] - patches[:, :-2, 1:-1]) / 2).flatten(1)
        values, norm = _standardised(patches[:, 1:-1, 1:-1].flatten(1), window)
        one = torch.ones_like(window.x)
        shape = torch.stack([one, window.x, window.y])  # (3, K)
        jacobian = torch.cat([gradient_x[:, None] * shape, gradient_y[:, None] * shape], dim=1)  # (N, 6, K)
        weighted = jacobian * window.weight
        unit = values / norm[:, None]
        mean, along = weighted.sum(dim=2), torch.bmm(weighted, unit[:, :, None])[:, :, 0]  # (N, 6)
        hessian = torch.bmm(weighted, jacobian.transpose(1, 2)) - _outer(mean) - _outer(along)
        return cls(values, norm, gradient_x * window.weight, gradient_y * window.weight, hessian)


def _standardised(values: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """values (N, K) less their weighted mean, and their weighted standard deviation (N,)."""
    centred = values - (values @ window.weight)[:, None]
    return centred, (centred.square() @ window.weight).sqrt().clamp(min=1e-3)


def _outer(vectors: Tensor) -> Tensor:
    return vectors[:, :, None] * vectors[:, None, :]


@dataclass(frozen=True, slots=True)
class Alignment:
    """N patches found in another image. xy: (N, 2) px. shape: (N, 2, 2) px of the image per sample of the template.
    correlation: (N,) zero-mean normalised, -1 to 1. information: (N, 2, 2) per px², what the pixels alone say of xy."""

    xy: Tensor
    shape: Tensor
    correlation: Tensor
    information: Tensor


def align(
    pyramid: Pyramid,
    templates: Templates,
    window: Window,
    *,
    start: Alignment,
    prior: Alignment,
    level: Tensor,
    prior_sigma: float,
) -> Alignment:
    """Moves N templates over an image from `start` (its xy and shape) to where they agree best with it.

    prior: xy and shape that they are held to, with a standard deviation of prior_sigma px and of SHAPE_SIGMA.
    level: (N,) i64 of the pyramid, whose px should be about as far apart as the template's samples in the image.
    """
    xy, shape = start.xy, start.shape
    prior_inverse = torch.linalg.inv(prior.shape)
    eye = torch.eye(2, device=xy.device)
    for _ in range(ITERATIONS):
        _, gradient, information = _linearised(pyramid, templates, window, xy, shape, level)
        hessian = templates.hessian * information[:, None, None]
        gradient = gradient * information[:, None]
        position_weight = torch.bmm(shape.transpose(1, 2), shape) / prior_sigma**2  # (N, 2, 2), of template samples
        offset = torch.bmm(shape.transpose(1, 2), (xy - prior.xy)[:, :, None])[:, :, 0] / prior_sigma**2
        deviation = torch.bmm(prior_inverse, shape) - eye  # (N, 2, 2)
        step = _solve(hessian, gradient, position_weight, offset, deviation)
        move = torch.bmm(shape, step[:, [0, 3], None])[:, :, 0]
        limit = MAX_STEP * 2.0 ** level.to(xy.dtype) / move.norm(dim=1).clamp(min=1e-9)
        xy = xy - move * limit.clamp(max=1.0)[:, None]
        change = step[:, [1, 2, 4, 5]].clamp(-0.3, 0.3).reshape(-1, 2, 2)
        shape = torch.bmm(shape, torch.linalg.inv(eye + change))
        if float(move.norm(dim=1).max()) < TOLERANCE:
            break
    correlation, _, information = _linearised(pyramid, templates, window, xy, shape, level)
    return Alignment(xy, shape, correlation, _position_information(templates.hessian, information, shape))


def found_in_stages(
    pyramid: Pyramid,
    templates: Iterable[Templates],
    window: Window,
    *,
    start: Alignment,
    levels: Sequence[tuple[Tensor, Tensor]],
    prior_sigma: float,
) -> Alignment:
    """`align` from coarse templates to fine ones, held to `start` (its xy and shape, px per px of the reference).

    levels: of each stage those that the templates were cut from, and that they are compared with: (N,) integers each,
    of which the coarsest that there are is taken where they are coarser.
    """
    found = start
    for stage, (template, target) in zip(templates, levels, strict=True):
        spacing = (2.0 ** template.clamp(max=NUM_LEVELS - 1).to(start.xy.dtype))[:, None, None]
        found = align(
            pyramid,
            stage,
            window,
            start=_spaced(found, spacing),
            prior=_spaced(start, spacing),
            level=target.clamp(max=NUM_LEVELS - 1),
            prior_sigma=prior_sigma,
        )
        found = _spaced(found, 1 / spacing)
    return found


def _spaced(alignment: Alignment, spacing: Tensor) -> Alignment:
    """Shapes per sample of a template from shapes per px of the reference."""
    return Alignment(alignment.xy, alignment.shape * spacing, alignment.correlation, alignment.information)


def _linearised(
    pyramid: Pyramid, templates: Templates, window: Window, xy: Tensor, shape: Tensor, level: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Correlation (N,), gradient (N, 6) of half the squared difference, and the weight (N,) of a squared grey level."""
    x = shape[:, 0, 0, None] * window.x + shape[:, 0, 1, None] * window.y + xy[:, 0, None]
    y = shape[:, 1, 0, None] * window.x + shape[:, 1, 1, None] * window.y + xy[:, 1, None]
    seen, norm = _standardised(pyramid.sample(level, x, y), window)
    difference = seen * (templates.norm / norm)[:, None] - templates.values
    along = (difference * templates.values) @ window.weight / templates.norm.square()  # (N,)
    correlation = 1 + along
    free = difference - along[:, None] * templates.values  # contrast taken out
    spread = torch.stack([torch.ones_like(window.x), window.x, window.y], dim=1)  # (K, 3)
    gradient = torch.cat([(templates.gradient_x * free) @ spread, (templates.gradient_y * free) @ spread], dim=1)
    noise = NOISE_GAIN * (difference.square() @ window.weight) + NOISE_FLOOR**2
    return correlation, gradient, len(window.x) / noise


def _solve(hessian: Tensor, gradient: Tensor, position_weight: Tensor, offset: Tensor, deviation: Tensor) -> Tensor:
    """The step (N, 6) of (x, xx, xy, y, yx, yy): position, and the relative shape by rows."""
    hessian, gradient = hessian.clone(), gradient.clone()
    position, shape = [0, 3], [1, 2, 4, 5]
    for i, row in enumerate(position):
        for j, column in enumerate(position):
            hessian[:, row, column] += position_weight[:, i, j]
        gradient[:, row] += offset[:, i]
    for i, row in enumerate(shape):
        hessian[:, row, row] += 1 / SHAPE_SIGMA**2
        gradient[:, row] += deviation.flatten(1)[:, i] / SHAPE_SIGMA**2
    step: Tensor = torch.linalg.solve(hessian, gradient)
    return step


def _position_information(hessian: Tensor, weight: Tensor, shape: Tensor) -> Tensor:
    """(N, 2, 2) per px² of the image, the uncertain shape taken out."""
    order = [0, 3, 1, 2, 4, 5]
    full = (hessian * weight[:, None, None])[:, order][:, :, order]
    full = full + torch.diag(torch.tensor([0.0, 0.0] + [1 / SHAPE_SIGMA**2] * 4, device=full.device))
    inner = full[:, :2, :2] - full[:, :2, 2:] @ torch.linalg.solve(full[:, 2:, 2:], full[:, 2:, :2])
    inverse = torch.linalg.inv(shape)
    return torch.bmm(torch.bmm(inverse.transpose(1, 2), inner), inverse)
