"""patch_alignment: positions in another image, as exact as the texture allows and as their information says."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from sfm.alignment.patch_alignment import Alignment, Templates, Window, align, cut_patches
from sfm.alignment.pyramids import Pyramid
from tests.support.plane_scene import smooth_noise

WINDOW = Window.of_radius(7)
MAP = np.array([[1.05, 0.12], [-0.08, 0.93]])
SIZE = 256


def texture(seed=1):
    return 128 + 35 * smooth_noise(seed, SIZE, 1.6, 4.0)


def resampled(image, A, shift, *, gain=1.0, offset=0.0, size=SIZE):
    """The image as another camera sees it: point p of it lies at A p + shift there (px with corner origin)."""
    y, x = np.mgrid[:size, :size] + 0.5
    source = np.linalg.inv(A) @ (np.stack([x.ravel(), y.ravel()]) - shift[:, None])
    values = ndimage.map_coordinates(image, source[::-1] - 0.5, order=3, mode="grid-wrap").reshape(size, size)
    return gain * values + offset


def grid_points(low, high, step):
    axis = np.arange(low, high, step, dtype=np.float64)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) + 0.37


def found(image, other, xy, start, A, *, template_level=0, level=0, prior=None, prior_sigma=2.0):
    """Alignment of the patches around xy (N, 2) of an image, from `start` (N, 2) in the other one, by the map A."""

    def of(values):
        return torch.from_numpy(np.array(values, np.float32))

    num = len(xy)
    patches = cut_patches(Pyramid.of(image, 4), of(xy), torch.full((num,), template_level), WINDOW)
    shape = of(np.tile(A * 2.0**template_level, (num, 1, 1)))
    first = Alignment(of(start), shape, torch.zeros(num), shape)
    held = first if prior is None else Alignment(of(prior), shape, torch.zeros(num), shape)
    return align(
        Pyramid.of(other, 4),
        Templates.of(patches, WINDOW),
        WINDOW,
        start=first,
        prior=held,
        level=torch.full((num,), level),
        prior_sigma=prior_sigma,
    )


def around(num, radius, seed=0):
    """(num, 2) offsets of that length in random directions."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, num)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.fixture(scope="module")
def mapped():
    """A texture, itself under MAP with other brightness and contrast, points of it and where they lie there."""
    image, shift = texture(), np.array([7.3, 4.6])
    xy = grid_points(40, 200, 16)
    return image, resampled(image, MAP, shift, gain=0.7, offset=25.0), xy, xy @ MAP.T + shift


def errors(result, ground_truth):
    return np.linalg.norm(result.xy.numpy() - ground_truth, axis=1)


def test_every_level_of_a_pyramid_keeps_the_pixels_of_the_image():
    y, x = np.mgrid[:75, :101] + 0.5
    pyramid = Pyramid.of(0.8 * x + 1.1 * y, 3)
    assert [tuple(level.shape) for level in pyramid.levels] == [(75, 101), (37, 50), (18, 25)]
    assert pyramid.nbytes == 4 * (75 * 101 + 37 * 50 + 18 * 25)
    at = (
        torch.tensor([[30.2, 50.0], [41.7, 60.3], [37.1, 50.9]]),
        torch.tensor([[30.0, 41.5], [33.3, 26.0], [40.9, 36.2]]),
    )
    ramp = pyramid.sample(torch.tensor([0, 2, 1]), *at)
    np.testing.assert_allclose(ramp, 0.8 * at[0] + 1.1 * at[1], atol=2e-3)
    np.testing.assert_array_equal(pyramid.sample(torch.ones(3, dtype=torch.int64), *at)[2], ramp[2])


def test_a_known_affine_map_is_recovered(mapped):
    image, other, xy, ground_truth = mapped
    result = found(image, other, xy, ground_truth + around(len(xy), 1.5), MAP, level=0)
    assert np.median(errors(result, ground_truth)) < 0.02
    assert np.quantile(errors(result, ground_truth), 0.9) < 0.03
    assert result.correlation.min() > 0.98


def test_a_wrong_shape_is_put_right(mapped):
    image, other, xy, ground_truth = mapped
    wrong = MAP @ np.array([[1.06, 0.05], [-0.03, 0.95]])
    result = found(image, other, xy, ground_truth + around(len(xy), 0.7), wrong)
    assert np.median(errors(result, ground_truth)) < 0.02
    assert np.median(np.abs(result.shape.numpy() - MAP)) < 0.25 * np.abs(wrong - MAP).mean()


def test_it_ends_where_opencvs_ecc_does(mapped):
    image, other, xy, ground_truth = mapped
    xy, ground_truth = xy[::9], ground_truth[::9]
    start = ground_truth + around(len(xy), 1.0)
    ours = found(image, other, xy, start, MAP).xy.numpy()
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-7)
    blurred = [ndimage.gaussian_filter(a, 0.8, mode="nearest").astype(np.float32) for a in (image, other)]
    steps = np.arange(-7, 8)
    differences = []
    for point, first, own in zip(xy, start, ours, strict=True):
        y, x = np.meshgrid(point[1] - 0.5 + steps, point[0] - 0.5 + steps, indexing="ij")
        template = ndimage.map_coordinates(blurred[0], [y, x], order=3).astype(np.float32)
        warp = np.column_stack([MAP, first - 0.5 - MAP @ [7.0, 7.0]]).astype(np.float32)
        _, warp = cv2.findTransformECC(template, blurred[1], warp, cv2.MOTION_AFFINE, criteria, None, 1)
        differences.append(own - (warp @ [7.0, 7.0, 1.0] + 0.5))
    assert len(differences) >= 10
    assert np.linalg.norm(differences, axis=1).max() < 0.04


def test_along_an_edge_the_prior_holds_and_across_it_the_pixels_do():
    normal = np.array([0.8, 0.6])
    along = np.array([-0.6, 0.8])
    y, x = np.mgrid[:80, :80] + 0.5
    image = 128 + 60 * np.tanh(((x - 40) * normal[0] + (y - 40) * normal[1]) / 1.5)
    xy = np.array([[40.0, 40.0]])
    start = xy + 1.2 * normal + 0.9 * along
    result = found(image, image, xy, start, np.eye(2))
    offset = result.xy.numpy()[0] - xy[0]
    assert abs(offset @ normal) < 0.03
    assert abs(offset @ along - 0.9) < 0.2
    information = result.information.numpy()[0]
    assert along @ information @ along < 1e-3 * (normal @ information @ normal)
    assert normal @ information @ normal > 1 / 0.1**2


def test_a_blank_patch_stays_where_it_is():
    blank = np.full((80, 80), 131.0)
    xy = np.array([[40.0, 40.0], [33.3, 51.2]])
    result = found(blank, blank, xy, xy + 1.5, np.eye(2))
    np.testing.assert_allclose(result.xy, xy + 1.5, atol=1e-3)
    assert np.abs(result.information.numpy()).max() < 1e-2


def test_what_is_not_there_has_a_low_correlation(mapped):
    image, _, xy, _ = mapped
    result = found(image, texture(seed=8), xy, xy, np.eye(2))
    assert np.median(result.correlation) < 0.6
    blank = found(image, np.full((SIZE, SIZE), 100.0), xy, xy, np.eye(2))
    assert blank.correlation.max() < 0.1


@pytest.mark.parametrize("sigma", [3.0, 8.0])
def test_errors_are_of_the_size_that_the_information_says(sigma):
    rng = np.random.default_rng(4)
    image = texture()
    xy = grid_points(20, 236, 12)
    noisy = [image + rng.normal(0, sigma, image.shape) for _ in range(2)]
    result = found(*noisy, xy, xy + rng.normal(0, 0.4, xy.shape), np.eye(2))
    offset = result.xy.numpy() - xy
    whitened = np.einsum("ni,nij,nj->n", offset, result.information.numpy(), offset)  # chi square, two degrees
    assert len(xy) > 300
    assert 0.5 < np.sqrt(np.median(whitened) / 1.386) < 2
    assert 0.5 < np.sqrt(np.mean(np.minimum(whitened, 25)) / 2) < 2


def test_a_batch_is_the_same_as_one_by_one(mapped):
    image, other, xy, ground_truth = mapped
    xy, ground_truth = xy[::12], ground_truth[::12]
    start = ground_truth + around(len(xy), 1.0)
    batch = found(image, other, xy, start, MAP)
    for n in range(len(xy)):
        one = found(image, other, xy[n : n + 1], start[n : n + 1], MAP)
        np.testing.assert_allclose(one.xy[0], batch.xy[n], atol=5e-3)
        np.testing.assert_allclose(one.correlation[0], batch.correlation[n], atol=1e-3)
        np.testing.assert_allclose(one.information[0], batch.information[n], rtol=0.1)


@pytest.mark.parametrize(("scale", "template_level", "level"), [(0.5, 1, 0), (2.0, 0, 1)])
def test_another_scale_is_compared_at_its_own_level(scale, template_level, level):
    image = texture()
    shift = np.array([3.2, 5.7])
    other = resampled(image, scale * np.eye(2), shift, gain=1.2, offset=-10, size=int(SIZE * scale))
    xy = grid_points(40, 200, 20)
    ground_truth = scale * xy + shift
    start = ground_truth + around(len(xy), 1.0 * scale)
    result = found(image, other, xy, start, scale * np.eye(2), template_level=template_level, level=level)
    assert np.median(errors(result, ground_truth)) < 0.03 * max(scale, 1)
    assert np.quantile(errors(result, ground_truth), 0.95) < 0.08 * max(scale, 1)
    np.testing.assert_allclose(np.median(result.shape.numpy(), axis=0), max(scale, 1) * np.eye(2), atol=0.02)


def test_a_strong_prior_keeps_the_position(mapped):
    image, other, xy, ground_truth = mapped
    result = found(image, other, xy, ground_truth, MAP, prior=ground_truth + 1.0, prior_sigma=1e-3)
    np.testing.assert_allclose(result.xy, ground_truth + 1.0, atol=0.05)
