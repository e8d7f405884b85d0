"""pyramids: reduced images keep their positions, and the cache what fits."""

import numpy as np
import pytest

from sfm.alignment.pyramids import (
    NUM_LEVELS,
    AlignmentImages,
    Pyramid,
    PyramidCache,
    reduced_grey,
    reduced_size,
)


def test_the_cache_holds_what_fits_and_reads_the_rest_again():
    reads = []

    def read(row):
        reads.append(row)
        return Pyramid.of(np.full((40, 40), float(row)), 1)  # 6400 bytes

    cache = PyramidCache(read, 2 * 6400)
    assert [float(cache(row).levels[0][20, 20]) for row in (0, 1, 0, 2, 0, 1)] == pytest.approx([0, 1, 0, 2, 0, 1])
    assert reads == [0, 1, 2, 1]  # 1 went for 2, as it was used longest ago
    tiny = PyramidCache(read, 0)
    assert tiny(5) is tiny(5)
    assert reads == [0, 1, 2, 1, 5]  # the one in use is held, however large


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [((4000, 3000), 1600, (1600, 1200)), ((3000, 4000), 1600, (1200, 1600)), ((640, 480), 1600, (640, 480)),
     ((4000, 3000), 0, (4000, 3000)), ((5000, 1), 100, (100, 1))],
)  # fmt: skip
def test_reduced_size(size, max_size, expected):
    assert reduced_size(*size, max_size) == expected


def test_reduced_grey_keeps_positions_and_smaller_images():
    y, x = np.mgrid[:90, :120] + 0.5
    grey = np.rint(x + 1.5 * y).astype(np.uint8)
    reduced = reduced_grey(grey, 40)
    assert reduced.shape == (30, 40)
    small_y, small_x = (np.mgrid[:30, :40] + 0.5) * 3
    np.testing.assert_allclose(reduced[2:-2, 2:-2], (small_x + 1.5 * small_y)[2:-2, 2:-2], atol=0.5)
    assert reduced_grey(grey, 120) is grey


def test_images_are_read_reduced_and_matches_deviate_less_in_them():
    greys = (np.full((300, 400), 7, np.uint8), np.full((60, 80), 9, np.uint8))
    images = AlignmentImages.of(greys.__getitem__, [(400, 300), (80, 60)], [9.0, 1.5], align_size=100)
    np.testing.assert_allclose(images.scale, [[0.25, 0.25], [1, 1]])
    np.testing.assert_allclose(images.unit, [2.25, 1.5])
    np.testing.assert_allclose(images.unit_px, [9.0, 1.5])
    assert [tuple(images.read(row).levels[0].shape) for row in (0, 1)] == [(75, 100), (60, 80)]
    assert [len(images.read(row).levels) for row in (0, 1)] == [NUM_LEVELS, NUM_LEVELS]


@pytest.mark.parametrize(
    ("sigma", "level"), [(0.3, 1), (1.0, 1), (2.0, 1), (2.1, 2), (4.5, 3), (1000.0, NUM_LEVELS - 1)]
)
def test_alignment_begins_where_a_match_deviates_by_a_pixel(sigma, level):
    images = AlignmentImages.of({}.__getitem__, [(64, 64), (64, 64), (64, 64)], [1.0, sigma, 1.0], align_size=0)
    assert images.first_level(1) == level
    assert images.first_level() == 1
