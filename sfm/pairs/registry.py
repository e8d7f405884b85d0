"""The selectors of pairs by name, and the pairs that the value of --pairs asks for, which may join some: a+b.

A selector is one file with a `PairSelector` (sfm.pairs.base) and one line in PAIR_SELECTORS, or an entry point of the
group loftr_sfm.pairs in another package.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from sfm.errors import BadFile
from sfm.pairs import exhaustive, gps, retrieval, sequential
from sfm.pairs.automatic import ALL_UP_TO, auto
from sfm.pairs.base import ChosenPairs, ImageSet, PairSelector, joined
from sfm.pairs.file import from_file
from sfm.registry import Entry, Registry

AUTO = "auto"
PAIR_SELECTORS: Registry[PairSelector] = Registry(
    "--pairs",
    "loftr_sfm.pairs",
    {
        "exhaustive": Entry("all with all", exhaustive.select),
        "sequential": Entry(
            "each image with the next N by name, default 10, some further ahead and those that look like it",
            sequential.select,
            argument="N",
            version="2",  # 0.1.0 took the next N alone
        ),
        "retrieval": Entry(
            "each image with about N that look like it, default 20: some first, then what their matches speak for",
            retrieval.select,
            argument="N",
            version="2",  # before, the N that look most like it, and no more
        ),
        "gps": Entry(
            "each image with about N near it by GPS, default 20, as for retrieval, or with all within METRES, as in "
            "gps:50m",
            gps.select,
            argument="N|METRESm",
            version="2",  # before, the N nearest, and no more
        ),
    },
)


def choose(spec: str, images: ImageSet) -> ChosenPairs:
    """Pairs by the value of --pairs: auto, NAME[:ARGUMENT] of a selector, several of these joined by +, or a file.

    Raises BadOption or BadFile.
    """
    check_pairs(spec)
    if spec == AUTO:
        return auto(images)
    if _unknown(spec):
        return from_file(Path(spec), images.names, skipped=images.skipped)
    made = [PAIR_SELECTORS.choose(part) for part in spec.split("+")]
    return joined([select(images, argument) for select, argument in made], images.names)


def check_pairs(spec: str) -> None:
    """Raises BadFile for a value of --pairs that is neither of selectors nor a file, before images are read."""
    unknown = () if spec == AUTO else _unknown(spec)
    if not unknown or Path(spec).exists():
        return
    entries = PAIR_SELECTORS.entries()
    named = [f"{name}[:{entry.argument}]" if entry.argument else name for name, entry in entries.items()]
    near = get_close_matches(unknown[0].partition(":")[0], [AUTO, *entries], n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise BadFile(f"--pairs {unknown[0]}: no such file, and none of {', '.join([AUTO, *named])}{meant}")


def _unknown(spec: str) -> tuple[str, ...]:
    """The parts of a value of --pairs that name no selector: all or some of them, where it is a file."""
    entries = PAIR_SELECTORS.entries()
    return tuple(part for part in spec.split("+") if part.partition(":")[0] not in entries)


def versions(spec: str, num_images: int) -> tuple[str, ...]:
    """What the pairs of this value of --pairs depend on besides its text: the versions of its selectors."""
    if spec == AUTO:  # 0.1.0 matched all with all, however many there were; "2" did not go on after the first round
        return ("3",) if num_images > ALL_UP_TO else ()
    return tuple(version for part in spec.split("+") for version in PAIR_SELECTORS.version(part))
