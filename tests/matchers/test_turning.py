from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sfm.matchers.turning import TurningMatcher, cells_turned_back, points_turned_back
from sfm.types import Grid

HEIGHT, WIDTH = 128, 192
TURNS = (0, 1, 2, 3)


def coordinates(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 2) f64: where each pixel's centre is, px."""
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=2)


def grid(width: int, height: int) -> Grid:
    """Cells of 8 px of an image that is seen at half its size."""
    return Grid(16.0, 16.0, width // 16)


@pytest.mark.parametrize("turn", TURNS)
def test_points_go_where_their_pixels_were(turn):
    turned = np.rot90(coordinates(), turn)  # at each pixel of the turned photo: where it was
    centres = coordinates(*turned.shape[:2]).reshape(-1, 2)
    np.testing.assert_array_equal(points_turned_back(centres, turn, (WIDTH, HEIGHT)), turned.reshape(-1, 2))


@pytest.mark.parametrize("turn", TURNS)
def test_cells_with_the_anchor_in_the_middle_are_the_cells_of_the_photo(turn):
    own = np.arange(HEIGHT // 16 * (WIDTH // 16)).reshape(HEIGHT // 16, -1)
    turned = np.rot90(own, turn)
    found = _cells(np.arange(turned.size), turn, anchor=0.5)
    np.testing.assert_array_equal(found, turned.ravel())


@pytest.mark.parametrize("turn", TURNS)
def test_cells_with_the_anchor_at_the_corner_have_the_nearest_anchor(turn):
    anchor = 0.5 / 8
    cells = np.arange(HEIGHT // 16 * (WIDTH // 16))
    found = _cells(cells, turn, anchor=anchor)
    inside = found >= 0
    assert len(np.unique(found[inside])) == inside.sum()  # no two become one
    lost = {0: 0, 1: WIDTH // 16, 2: (WIDTH + HEIGHT) // 16 - 1, 3: HEIGHT // 16}  # a row or a column or both
    assert np.sum(~inside) in {lost[turn], lost[4 - turn] if turn else 0}
    points = points_turned_back(_anchors(cells, turn, anchor), turn, (WIDTH, HEIGHT))[inside]
    assert np.abs(points - _anchors(found[inside], 0, anchor)).max() <= 2.0  # a network pixel


def _cells(cells, turn, *, anchor):
    turned_grid = grid(*((HEIGHT, WIDTH) if turn % 2 else (WIDTH, HEIGHT)))
    size = (WIDTH, HEIGHT)
    return cells_turned_back(cells, turn, size, grid=grid(*size), turned_grid=turned_grid, anchor=anchor)


def _anchors(cells, turn, anchor):
    columns = (HEIGHT if turn % 2 else WIDTH) // 16
    return (np.stack([cells % columns, cells // columns], axis=1) + anchor) * 16.0


@pytest.fixture(scope="module")
def compact():
    weights = pytest.importorskip("sfm.weights")
    return TurningMatcher(weights.load("compact", device="cpu", offline=True, resize=WIDTH))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = sum(sigma * gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), sigma) for sigma in (1, 2, 4, 8, 16))
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_photo_and_its_turned_copy_match_in_their_own_pixels(compact, photo, turn):
    copy, truth = np.rot90(photo, -turn), np.rot90(coordinates(), -turn)
    features = compact.encode([(photo, None, 0), (copy, None, 0), (copy, None, turn)])
    upright, turned = compact.match([(features[0], features[1]), (features[0], features[2])])
    assert len(turned) > 100
    column, row = turned.points1.astype(int).T.clip(0, [[copy.shape[1] - 1], [copy.shape[0] - 1]])
    error = np.linalg.norm(truth[row, column] - turned.points0, axis=1)
    assert np.mean(error < 1.5) > 0.9
    strong = [np.sum(m.confidence > 0.5) for m in (upright, turned)]
    assert strong[1] > 4 * strong[0]
    for points, cells, image in ((turned.points0, turned.cells0, photo), (turned.points1, turned.cells1, copy)):
        columns = image.shape[1] // 8
        anchors = (np.stack([cells % columns, cells // columns], axis=1) + 0.5 / 8) * 8
        half = len(turned) // 2
        near = np.abs(points - anchors).max(axis=1) <= 1.0  # rows that start at a cell's anchor lie there
        assert max(near[:half].mean(), near[half:].mean()) > 0.95


def test_one_keypoint_a_cell(compact, photo):
    features = compact.encode([(photo, None, 2), (photo, None, 0), (np.rot90(photo, 2), None, 2)])
    for f0, f1 in pairwise(features):
        matches = compact.match([(f0, f1)])[0]
        partners = {}
        for cell0, cell1 in zip(matches.cells0.tolist(), matches.cells1.tolist(), strict=True):
            assert partners.setdefault(cell0, cell1) == cell1


def test_masks_turn_with_the_photo(compact, photo):
    mask = np.ones(photo.shape, bool)
    mask[:, :96] = False
    features = compact.encode([(photo, None, 0), (np.rot90(photo), np.rot90(mask), 3)])
    matches = compact.match([tuple(features)])[0]
    assert len(matches) > 50
    assert matches.points0[:, 0].min() > 90
    assert matches.points1[:, 1].max() < 96  # the photo's right half is the copy's upper half
