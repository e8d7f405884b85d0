"""What a stage did, in words for people who do not know its counts. All counts are in run.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from sfm.types import StageSummary
from sfm.wording import counted

_OF_A_ROUND = re.compile(r"round_[0-9]+(_fit)?$")  # counts that the sentence sums up
Counts = Mapping[str, int | float]


def stage_sentence(stage: StageSummary) -> str:
    """A sentence about a stage; of counts that it does not know, the names and values."""
    write, known = _SENTENCES.get(stage.stage, (None, ()))
    try:
        parts = [] if write is None else [write(stage.counts)]
    except KeyError:  # of another version
        parts, known = [], ()
    return ", ".join(part for part in (*parts, counts_text(stage, without=known)) if part)


def counts_text(stage: StageSummary, *, without: Collection[str] = ()) -> str:
    """The counts of a stage by their names."""
    own = {name: value for name, value in stage.counts.items() if name not in without and not _OF_A_ROUND.match(name)}
    return ", ".join(f"{_number(value)} {_noun(name, value)}" for name, value in own.items())


def _noun(name: str, value: float) -> str:
    """A count's name in words: "models", "1 model", "focals estimated", "1 focal estimated"."""
    first, *others = name.split("_")
    return " ".join([first[:-1] if value == 1 and first.endswith("s") else first, *others])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _images(c: Counts) -> str:
    text = f"{_count(c['images'], 'image')} of {_count(c['cameras'], 'camera')}"
    if c["focal_priors"]:
        how_many = "all" if c["focal_priors"] == c["images"] else f"{int(c['focal_priors']):,}"
        text += f", focal length known of {how_many}"
    text += _if(c.get("copies", 0), "{} of the same bytes as one of them", "more file")
    return text + (f"; {_count(c['skipped'], 'file')} skipped" if c["skipped"] else "")


def _pairs(c: Counts) -> str:
    more = f" first, of {int(c['candidates']):,} that may follow" if c.get("candidates") else ""
    return f"{_count(c['pairs'], 'pair')} of images to match{more}" + _if(c["dropped"], "{} left out")


def _matching(c: Counts) -> str:
    text = f"{_count(c['matches'], 'match', 'matches')} in {_count(c['pairs'], 'pair')}"
    text += _if(c["reused"], "{} of them kept from before") + _if(c.get("turned", 0), "{} matched rotated")
    text += _if(c.get("helped", 0), "{} that SIFT ties where the matcher hardly does")
    rounds = [(c[f"round_{k}_fit"], c[f"round_{k}"]) for k in range(1, int(c.get("rounds", 0)) + 1)]
    if not rounds:
        return text
    each = ", ".join(f"{int(fit):,} of {int(tried):,}" for fit, tried in rounds)
    return f"{text}; {_count(len(rounds), 'round')} of pairs, of which {each} show one place"


def _verification(c: Counts) -> str:
    text = f"{int(c['verified']):,} of {_count(c['pairs'], 'pair')} show the same surfaces"
    return text + f", by {_count(c['inliers'], 'match', 'matches')} that fit together"


def _tracks(c: Counts) -> str:
    return f"{_count(c['tracks'], 'point')} followed through {c['track_length']:.1f} images on average"


def _mapping(c: Counts) -> str:
    if not c["models"]:
        return "no model"
    text = _model(c)
    if c.get("attempt", 1) > 1:
        text += f", at attempt {int(c['attempt'])}"
    text += _if(c.get("pairs_removed", 0), "{} removed that contradicted the others", "pair")
    return text + _if(c.get("pairs_refused", 0), "{} refused of places that look alike")


def _refinement(c: Counts) -> str:
    text = _model(c) + _if(c.get("newly_registered", 0), "{} added", "image")
    return text + (f", after {_count(c['rounds'], 'round')}" if c.get("rounds") else ", not refined")


def _model(c: Counts) -> str:
    where = "" if c["models"] == 1 else f"{_count(c['models'], 'model')}, in the largest "
    text = f"{where}{_count(c['registered'], 'image')} placed, {_count(c['points3D'], '3D point')}"
    return f"{text}, {c['reprojection_error']:.2f} px error"


def _count(number: float, one: str, many: str | None = None) -> str:
    return counted(int(number), one, many)


def _if(number: float, text: str, noun: str = "pair") -> str:
    """What is said only where it happened."""
    return f", {text.format(_count(number, noun))}" if number else ""


_MODEL = ("models", "registered", "points3D", "observations", "track_length", "reprojection_error")
_SENTENCES: Mapping[str, tuple[Callable[[Counts], str], tuple[str, ...]]] = MappingProxyType(  # and the counts known
    {
        "images": (_images, ("images", "skipped", "cameras", "focal_priors", "copies")),
        "pairs": (_pairs, ("images", "pairs", "dropped", "candidates")),
        "matching": (_matching, ("pairs", "matches", "encoded", "reused", "turned", "helped", "rounds")),
        "verification": (_verification, ("pairs", "verified", "inliers")),
        "tracks": (_tracks, ("tracks", "observations", "track_length")),
        "mapping": (_mapping, (*_MODEL, "attempt", "pairs_removed", "pairs_refused", "focals_estimated", "focal_px")),
        "refinement": (_refinement, (*_MODEL, "rounds", "moved_network_px", "rejected", "newly_registered")),
    }
)
