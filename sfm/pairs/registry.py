"""The selectors of pairs by name, and the pairs that the value of --pairs asks for.

A selector is one file with a `PairSelector` (sfm.pairs.base) and one line in PAIR_SELECTORS, or an entry point of the
group loftr_sfm.pairs in another package.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from sfm.errors import BadFile
from sfm.pairs import exhaustive, gps, sequential
from sfm.pairs.base import ChosenPairs, ImageSet, PairSelector
from sfm.pairs.file import from_file
from sfm.registry import Entry, Registry

AUTO = "auto"
PAIR_SELECTORS: Registry[PairSelector] = Registry(
    "--pairs",
    "loftr_sfm.pairs",
    {
        "exhaustive": Entry("all with all", exhaustive.select),
        "sequential": Entry("each image with the next N by name, default 10", sequential.select, argument="N"),
        "gps": Entry(
            "each image with its N nearest ones by GPS, default 20, or with all within METRES, as in gps:50m",
            gps.select,
            argument="N|METRESm",
        ),
    },
)


def choose(spec: str, images: ImageSet) -> ChosenPairs:
    """Pairs by the value of --pairs: auto, NAME[:ARGUMENT] of a selector, or a pairs file. BadOption or BadFile."""
    if spec == AUTO:
        return exhaustive.auto(images)
    entries = PAIR_SELECTORS.entries()
    if spec.partition(":")[0] in entries:
        select, argument = PAIR_SELECTORS.choose(spec)
        return select(images, argument)
    path = Path(spec)
    if not path.exists():
        named = [f"{name}[:{entry.argument}]" if entry.argument else name for name, entry in entries.items()]
        near = get_close_matches(spec.partition(":")[0], [AUTO, *entries], n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise BadFile(f"--pairs {spec}: no such file, and none of {', '.join([AUTO, *named])}{meant}")
    return from_file(path, images.names, skipped=images.skipped)
