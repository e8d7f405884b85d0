"""Whether a two-view geometry fits more matches than chance would give it.

Chance is assessed a contrario (Moisan and Stival, A probabilistic criterion to detect rigid point matches between two
images, IJCV 2004): the expected number of geometries that fit k of n random matches within the same error. Semi-dense
matches come in thousands, where COLMAP's fixed minimum of 15 inliers is reached by noise alone.

The wrong matches of a network are not independent of each other: a patch that is mistaken for another takes its
neighbours along, and the best of all geometries fits up to a third of a pair's matches where nothing is common. So
matches of the same two blocks of the images count as one (`Blocks`), and a pair needs either far fewer false alarms
than one, or most of its matches explained: of their share, each counted by its confidence, the lower end of the
interval for so many blocks. Many matches may be explained in part, as where little is common to two images; of a few,
those that the matcher is sure of must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log, sqrt
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sfm.geometry.epipolar import epipolar_distance
from sfm.types import Float64, Grid, Int64, Matches

CHANCE_SAMPLES = 5000
BLOCK_CELLS = 4  # side of a block, cells of the matcher's grid
DEVIATIONS = 2.0  # of the interval's lower end
# 338 right pairs (four fifths of the inliers on true epipolar lines) and 72 wrong ones (less than half) of temple,
# dino, fountain, herzjesu, a room and two synthetic scenes: 303 right and 2 wrong are convincing, 288 and 4 had half of
# their matches verified; the poses of 79 % are within 10 degrees, either way
EXPLAINED = 0.5  # most of what the matcher is sure of
FAR_BEYOND = -40.0  # log10 of the false alarms, by blocks; of wrong pairs of real images at least 1e-29
IN_DOUBT = -15.0  # up to here a pair may connect images that nothing else does; 64 of the 72 wrong pairs are beyond


def log_false_alarms(num_inliers: int, num_matches: int, probability: float) -> float:
    """Natural log of the a-contrario number of false alarms of a fundamental matrix (7 points, 3 solutions).

    probability: that a random match fits a given fundamental matrix. Meaningful where negative.
    """
    if num_inliers <= 7:
        return float("inf")

    def log_choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    models = log(3.0) + log(max(num_matches - 7, 1)) + log_choose(num_matches, num_inliers) + log_choose(num_inliers, 7)
    return models + (num_inliers - 7) * log(min(probability, 1.0))


def chance(matches: Matches, F: Float64, max_error: float) -> float:
    """Probability that a wrong match fits F: the share that does when the points of image 1 are randomly permuted.

    Measured on the matches' own points, not assumed uniform: an object in front of a blank wall
    has all of its points within a few epipolar lines.
    """
    num = len(matches)
    rng = np.random.default_rng(0)
    rounds = max(1, CHANCE_SAMPLES // num)
    permuted = np.concatenate([rng.permutation(num) for _ in range(rounds)])
    distance = epipolar_distance(np.tile(matches.points0, (rounds, 1)), matches.points1[permuted], F)
    return float((np.count_nonzero(distance <= max_error) + 1) / (len(permuted) + 1))


def is_meaningful(matches: Matches, inliers: Int64, F: Float64, max_error: float) -> bool:
    """Whether the inlier rows of F are more than chance would give. Rows of the same two cells count once."""
    distinct = _num_distinct(matches, np.arange(len(matches)))
    return log_false_alarms(_num_distinct(matches, inliers), distinct, chance(matches, F, max_error)) < 0


def _num_distinct(matches: Matches, rows: Int64) -> int:
    if len(rows) == 0 or matches.cells0[0] < 0 or matches.cells1[0] < 0:
        return len(rows)
    key = (matches.cells0[rows] << 32) | matches.cells1[rows]
    return len(np.unique(key))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of both images, within which a matcher's wrong matches go together. sizes: (width, height) px of each."""

    sizes: tuple[tuple[float, float], tuple[float, float]]

    UNKNOWN: ClassVar[Blocks]  # of matches that came without a grid

    @classmethod
    def of(cls, grid0: Grid, grid1: Grid) -> Blocks:
        """Of images with these grids."""
        size0, size1 = ((BLOCK_CELLS * grid.cell_width, BLOCK_CELLS * grid.cell_height) for grid in (grid0, grid1))
        return cls((size0, size1))

    def numbers(self, matches: Matches) -> Int64:
        """(M,) number of the two blocks of each match, 0 to the number of different ones."""
        both = np.concatenate([matches.points0 // self.sizes[0], matches.points1 // self.sizes[1]], axis=1)
        return np.unique(both.astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)


Blocks.UNKNOWN = Blocks(((32.0, 32.0), (32.0, 32.0)))


def least_explained(confidence: NDArray[np.floating], explained: NDArray[np.bool_], num_independent: int) -> float:
    """Lower end of the share of matches that are explained, each counted by its confidence, 0 to 1.

    confidence, explained: (M,). num_independent: how many of them count.
    """
    total = float(confidence.sum())
    return lower_end(float(confidence[explained].sum()) / total, num_independent) if total > 0 else 0.0


def lower_end(share: float, num: float) -> float:
    """Lower end of a share, 0 to 1, that was seen of `num` independent things; 0 of none.

    The interval is Wilson's (Probable inference, the law of succession, and statistical inference, JASA 1927), of
    DEVIATIONS standard deviations.
    """
    if num <= 0:
        return 0.0
    z = DEVIATIONS
    spread = z * sqrt(share * (1 - share) * num + z * z / 4)
    return max(0.0, (share * num + z * z / 2 - spread) / (num + z * z))


def is_convincing(
    matches: Matches,
    inliers: Int64,
    probability: float | None,
    blocks: Blocks,
    *,
    false_alarms: float = FAR_BEYOND,
) -> bool:
    """Whether two images with these matches of a network show the same place, by the inlier rows of their geometry.

    probability: that a wrong match fits the geometry (`chance`); None where it is not known. false_alarms: log10 of how
    many are too many.
    """
    if len(inliers) == 0:
        return False
    numbers, explained = blocks.numbers(matches), np.zeros(len(matches), bool)
    explained[inliers] = True
    sizes = np.bincount(numbers)
    if least_explained(matches.confidence.astype(np.float64), explained, len(sizes)) > EXPLAINED:
        return True
    if probability is None:
        return False
    right = int(np.count_nonzero(2 * np.bincount(numbers, explained) > sizes))
    return log_false_alarms(right, len(sizes), probability) < false_alarms * log(10.0)


def weighed(
    matches: Matches, inliers: Int64, probability: float | None, blocks: Blocks, min_ratio: float
) -> tuple[bool, str]:
    """Whether a pair of these matches of a network is kept, and what speaks against it: of one in doubt, too.

    min_ratio: the user's least share of inliers. Others: as is_convincing.
    """
    if len(inliers) < min_ratio * len(matches):
        return False, "small share"
    if is_convincing(matches, inliers, probability, blocks):
        return True, ""
    return is_convincing(matches, inliers, probability, blocks, false_alarms=IN_DOUBT), "little evidence"
