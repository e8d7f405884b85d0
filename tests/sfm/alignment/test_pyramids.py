"""pyramids: reduced images keep their positions, and the cache what fits."""

import numpy as np
import pytest

from sfm.alignment.pyramids import Pyramid, PyramidCache, reduced_grey, reduced_size


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
