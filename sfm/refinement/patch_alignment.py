"""Photometric alignment of small patches: the sub-pixel position of a point of one image in another.

The patch around the reference point is warped into the other image by an affine map and moved until both agree best,
up to brightness and contrast: the inverse compositional algorithm (Baker and Matthews, Lucas-Kanade 20 years on,
IJCV 2004) for a weighted window and zero-mean, unit-variance patches, with Gaussian priors on the position and on the
shape. Where a patch carries no information (a blank wall, or along an edge) the prior dominates, and the information
matrix of each position reflects this. Pixels are COLMAP's (sfm.types), of the images that the pyramids are made from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BLUR_SIGMA = 0.8  # px; bilinear interpolation between blurred pixels is nearly exact
NOISE_GAIN = 3.0  # neighbouring pixels of a blurred image repeat each other: residuals count this much less
NOISE_FLOOR = 1.0  # grey levels
SHAPE_SIGMA = 0.1  # relative: how far the affine map may be from the geometry's
MAX_STEP = 2.0  # px of the level, of one iteration
ITERATIONS = 5
TOLERANCE = 0.02  # px; when the whole batch moves less, it is done


@dataclass(frozen=True, slots=True)
class Pyramid:
    """One image at 1, 1/2, 1/4, ... of its size, blurred a little: (H, W) f32 each. Level l is in px of 2**l."""

    levels: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(level.nbytes for level in self.levels)

    @classmethod
    def of(cls, grey: NDArray[np.floating] | NDArray[np.uint8], num_levels: int, device: str = "cpu") -> Pyramid:
        """grey: (H, W), 0 to 255."""
        image = torch.from_numpy(np.array(grey, np.float32)).to(device)
        levels = [_blurred(image)]
        while len(levels) < num_levels:
            if min(image.shape) >= 4:
                image = F.avg_pool2d(image[None, None], 2)[0, 0]
            levels.append(_blurred(image))
        return cls(tuple(levels))

    def sample(self, level: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Bilinear values (N, K) at full-size px x, y (N, K), row n in level[n]; the border is repeated outwards."""
        values = torch.empty_like(x)
        for index in torch.unique(level).tolist():
            rows = torch.nonzero(level == index)[:, 0]
            whole = len(rows) == len(level)
            image = self.levels[index]
            height, width = image.shape
            scale_x, scale_y = 2 / (width * 2**index), 2 / (height * 2**index)
            grid_x, grid_y = (x, y) if whole else (x[rows], y[rows])
            grid = torch.stack([grid_x * scale_x - 1, grid_y * scale_y - 1], dim=-1)[None]
            found = F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
            if whole:
                return found
            values[rows] = found
        return values


def _blurred(image: Tensor) -> Tensor:
    """(H, W) under a Gaussian of BLUR_SIGMA, the border repeated; a sum of shifted images is faster than conv2d."""
    radius = 2
    weights = [float(np.exp(-0.5 * (step / BLUR_SIGMA) ** 2)) for step in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis in (0, 1):
        size = image.shape[axis]
        pad = (0, 0, radius, radius) if axis == 0 else (radius, radius, 0, 0)
        padded = F.pad(image[None, None], pad, mode="replicate")[0, 0]
        shifted = [padded.narrow(axis, start, size) for start in range(2 * radius + 1)]
        image = shifted[radius] * (weights[0] / total)
        for step in range(1, radius + 1):
            image = image.add(shifted[radius - step] + shifted[radius + step], alpha=weights[step] / total)
    return image


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
