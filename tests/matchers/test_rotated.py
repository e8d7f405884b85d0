from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sfm.matchers.rotated import RotatingMatcher, cells_rotated_back, points_rotated_back
from sfm.types import Grid

HEIGHT, WIDTH = 128, 192
ROTATIONS = (0, 1, 2, 3)


def coordinates(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 2) f64: where each pixel's centre is, px."""
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=2)


def grid(width: int, height: int) -> Grid:
    """Cells of 8 px of an image that is seen at half its size."""
    return Grid(16.0, 16.0, width // 16)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_points_go_where_their_pixels_were(rotation):
    rotated = np.rot90(coordinates(), rotation)  # at each pixel of the rotated image: where it was
    centres = coordinates(*rotated.shape[:2]).reshape(-1, 2)
    np.testing.assert_array_equal(points_rotated_back(centres, rotation, (WIDTH, HEIGHT)), rotated.reshape(-1, 2))


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_cells_with_the_anchor_in_the_middle_are_the_cells_of_the_image(rotation):
    own = np.arange(HEIGHT // 16 * (WIDTH // 16)).reshape(HEIGHT // 16, -1)
    rotated = np.rot90(own, rotation)
    found = _cells(np.arange(rotated.size), rotation, anchor=0.5)
    np.testing.assert_array_equal(found, rotated.ravel())


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_cells_with_the_anchor_at_the_corner_have_the_nearest_anchor(rotation):
    anchor = 0.5 / 8
    cells = np.arange(HEIGHT // 16 * (WIDTH // 16))
    found = _cells(cells, rotation, anchor=anchor)
    inside = found >= 0
    assert len(np.unique(found[inside])) == inside.sum()  # no two become one
    lost = {0: 0, 1: WIDTH // 16, 2: (WIDTH + HEIGHT) // 16 - 1, 3: HEIGHT // 16}  # a row or a column or both
    assert np.sum(~inside) in {lost[rotation], lost[4 - rotation] if rotation else 0}
    points = points_rotated_back(_anchors(cells, rotation, anchor), rotation, (WIDTH, HEIGHT))[inside]
    assert np.abs(points - _anchors(found[inside], 0, anchor)).max() <= 2.0  # a network pixel


def _cells(cells, rotation, *, anchor):
    rotated_grid = grid(*((HEIGHT, WIDTH) if rotation % 2 else (WIDTH, HEIGHT)))
    size = (WIDTH, HEIGHT)
    return cells_rotated_back(cells, rotation, size, grid=grid(*size), rotated_grid=rotated_grid, anchor=anchor)


def _anchors(cells, rotation, anchor):
    columns = (HEIGHT if rotation % 2 else WIDTH) // 16
    return (np.stack([cells % columns, cells // columns], axis=1) + anchor) * 16.0


@pytest.fixture(scope="module")
def compact():
    weights = pytest.importorskip("sfm.weights")
    return RotatingMatcher(weights.load("compact", device="cpu", offline=True, resize=WIDTH))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = sum(sigma * gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), sigma) for sigma in (1, 2, 4, 8, 16))
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("rotation", [1, 2, 3])
def test_an_image_and_its_rotated_copy_match_in_their_own_pixels(compact, image, rotation):
    copy, ground_truth = np.rot90(image, -rotation), np.rot90(coordinates(), -rotation)
    features = compact.encode([(image, None, 0), (copy, None, 0), (copy, None, rotation)])
    upright, rotated = compact.match([(features[0], features[1]), (features[0], features[2])])
    assert len(rotated) > 100
    column, row = rotated.points1.astype(int).T.clip(0, [[copy.shape[1] - 1], [copy.shape[0] - 1]])
    error = np.linalg.norm(ground_truth[row, column] - rotated.points0, axis=1)
    assert np.mean(error < 1.5) > 0.9
    strong = [np.sum(m.confidence > 0.5) for m in (upright, rotated)]
    assert strong[1] > 4 * strong[0]
    for points, cells, own in ((rotated.points0, rotated.cells0, image), (rotated.points1, rotated.cells1, copy)):
        columns = own.shape[1] // 8
        anchors = (np.stack([cells % columns, cells // columns], axis=1) + 0.5 / 8) * 8
        half = len(rotated) // 2
        near = np.abs(points - anchors).max(axis=1) <= 1.0  # rows that start at a cell's anchor lie there
        assert max(near[:half].mean(), near[half:].mean()) > 0.95


def test_one_keypoint_a_cell(compact, image):
    features = compact.encode([(image, None, 2), (image, None, 0), (np.rot90(image, 2), None, 2)])
    for f0, f1 in pairwise(features):
        matches = compact.match([(f0, f1)])[0]
        partners = {}
        for cell0, cell1 in zip(matches.cells0.tolist(), matches.cells1.tolist(), strict=True):
            assert partners.setdefault(cell0, cell1) == cell1


def test_masks_rotate_with_the_image(compact, image):
    mask = np.ones(image.shape, bool)
    mask[:, :96] = False
    features = compact.encode([(image, None, 0), (np.rot90(image), np.rot90(mask), 3)])
    matches = compact.match([tuple(features)])[0]
    assert len(matches) > 50
    assert matches.points0[:, 0].min() > 90
    assert matches.points1[:, 1].max() < 96  # the image's right half is the copy's upper half
