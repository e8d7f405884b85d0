"""A detector beside a matcher that sees reduced images, for images that it ties to few others.

On fields, gravel or roofs a network that sees a tenth of the pixels matches next to nothing, or what is nearly as good:
a thin and doubtful rest. A detector at full size has corners there. Where an image has fewer than three clear ties, its
nearest candidates are matched by the detector too. Then the pairs among the partners that were found, as far as the
matcher tried them: only so do the detector's keypoints see a point from two images that are placed already, and the
image can be placed by it. The matches lie under a key of their own, beside the others, as of matchers side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from sfm.match_graph import TriedPair, partners
from sfm.matching.loose_images import LooseImages
from sfm.matching.pair_matching import PairMatching
from sfm.matching.rotations import CLEARLY_TIED, RotatedPair
from sfm.matching.turning import Found
from sfm.types import ImagePair


class Helped(NamedTuple):
    """What the detector found. found: of every pair that it matched. tied: pairs of loose images that it ties. tried:
    the graph of pairs with these."""

    found: Mapping[RotatedPair, Found]
    tied: frozenset[ImagePair]
    tried: list[TriedPair]


def help_loose(
    detector: PairMatching, known: Mapping[ImagePair, Found], tried: Sequence[TriedPair], loose: LooseImages
) -> Helped:
    """Matches pairs of loose images, and those among their partners. known: what the matcher found of each pair."""
    ties = {pair for pair, each in known.items() if each.strength >= CLEARLY_TIED}
    found: dict[RotatedPair, Found] = {}
    tied: set[ImagePair] = set()
    while pairs := loose.next(ties):
        answers = detector.match([RotatedPair(pair, 0) for pair in pairs], desc="loose images")
        found |= answers
        tied |= {task.pair for task in detector.tied(answers)}
        ties |= tied
    graph = {each.pair: each for each in tried}
    beside = {ImagePair(*two) for own in partners(tied).values() for two in combinations(sorted(own), 2)}
    around = sorted(beside & graph.keys() - tied)
    found |= detector.match([RotatedPair(pair, 0) for pair in around], desc="around loose images")
    last = max((each.round for each in tried), default=1)
    for pair in sorted(tied):
        each = graph.get(pair, TriedPair(pair, last, "few", False))
        graph[pair] = each if each.fits is None else each._replace(fits=True)
    return Helped(found, frozenset(tied), list(graph.values()))
