"""What a run came to, in a sentence, and what stands against it: each thing once, with what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sfm.results.run_json import num_refused, recorded_warnings
from sfm.wording import counted

MAX_REASONS = 4
LABELS = {"good": "Good", "gaps": "Incomplete", "odd": "Look closer", "bad": "Probably bad", "none": "No model"}
_NAMES_REMEDY = re.compile(r"[(;] ?(give|move|add|leave|take)\b")
REMEDIES = {  # of warnings whose text names none
    "few images": "add images with viewpoints between those that are in the model and those that are not",
    "in pieces": "add images that show what two pieces have in common",
    "no numbers": "run again with other images",
    "high error": "check that all images show one scene in which nothing moves, by cameras of one kind",
    "behind cameras": "check that all images show one scene in which nothing moves",
    "contradicted": "look whether two places that look alike are taken for one; leave out the images of one of them",
    "absurd focal length": "give --intrinsics if the camera is known, or images whose EXIF is right",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to know before the model is used. remedy: what to do, or "". show: which images a page should show for
    it: out (not registered), odd (outliers) or ""."""

    text: str
    remedy: str = ""
    show: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """level: good, gaps, odd, bad or none, with a label for people. sentence: what came of the run."""

    level: str
    sentence: str
    problems: tuple[Problem, ...]

    def part(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"label": LABELS[self.level]}


def run_verdict(record: Mapping[str, Any], reasons: Mapping[str, str], odd: int) -> Verdict:
    """Of a run by its run.json. reasons: why each image that is not in the largest model is not. odd: number of
    registered images that are outliers."""
    if not record.get("models"):
        return _no_model(record, reasons)
    total, registered = record["images"], record["registered"]
    bad = tuple(_warning(warning, text) for warning, text in _recorded(record))
    problems = bad + _other_models(record, lost=bool(reasons)) + _missing(reasons, total) + _odd(odd)
    if bad:
        sentence = f"{registered} of {total} images are in a model that is probably bad: read why before you use it."
        return Verdict("bad", sentence, problems)
    if reasons:
        sentence = f"{registered} of {total} images are in the model; no check found a fault in it."
        return Verdict("gaps", sentence, problems)
    who = f"All {total} images are" if total > 1 else "The image is"
    if odd:
        return Verdict("odd", f"{who} in one model; {odd} of them stand{'s' if odd == 1 else ''} out.", problems)
    return Verdict("good", f"{who} in one model, and no check found a fault in it.", problems)


def _no_model(record: Mapping[str, Any], reasons: Mapping[str, str]) -> Verdict:
    error = record.get("error")
    if not error:
        stage = record["stages"][-1]["stage"] if record["stages"] else "the start"
        return Verdict("none", f"The run stopped after {stage}; there is no model yet.", ())
    said, _, remedy = str(error).removeprefix("no model: ").partition("; ")
    problems = (Problem(_capital(remedy) + "."),) if remedy else ()
    return Verdict("none", f"{_capital(said)}.", problems + _missing(reasons, 0))


def _recorded(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Sign and text of each warning; of version 0.1.0 too, which knew no signs."""
    texts = recorded_warnings(record)
    signs = [str(warning.get("sign", "")) for warning in record.get("warnings", record.get("doubts", []))]
    return list(zip(signs, texts, strict=True))


def _warning(sign: str, text: str) -> Problem:
    remedy = "" if _NAMES_REMEDY.search(text) else REMEDIES.get(sign, "")
    return Problem(f"{_capital(text)}.", f"{_capital(remedy)}." if remedy else "")


def _other_models(record: Mapping[str, Any], *, lost: bool) -> tuple[Problem, ...]:
    others = record["models"][1:]
    if not others:
        return ()
    named = ", ".join(f"{model['path']} ({model['images']} images)" for model in others[:MAX_REASONS])
    more = f" and {len(others) - MAX_REASONS} more" if len(others) > MAX_REASONS else ""
    if not lost:
        return (Problem(f"Of some of the images there are other models, too, which are not needed: {named}{more}."),)
    if refused := num_refused(record):
        text = f"The images are in {len(others) + 1} models; this page shows the largest. The others: {named}{more}."
        text += (
            f" {counted(refused, 'pair')} between places that look alike {_are(refused)} refused (dashed in the match"
        )
        return (Problem(f"{text} graph).", "Where they are one place after all, trust its pairs: --trust-pairs FILE."),)
    return (
        Problem(
            f"The images split into {len(others) + 1} models; this page shows the largest. The others: {named}{more}.",
            "Add images that show what two of them have in common.",
        ),
    )


def _missing(reasons: Mapping[str, str], total: int) -> tuple[Problem, ...]:
    """The unregistered images, counted by reason. total: of all images, 0 where it goes without saying."""
    if not reasons:
        return ()
    counts = Counter(reasons.values()).most_common()
    said = _listed([f"{count} × {reason}" if len(counts) > 1 else reason for reason, count in counts])
    what = f"{len(reasons)} of {total} images {_are(len(reasons))} not in the model" if total else "Image by image"
    return (Problem(f"{what}: {said}.", "", "out"),)


def _odd(odd: int) -> tuple[Problem, ...]:
    if not odd:
        return ()
    what = "images have" if odd > 1 else "image has"
    text = f"{odd} registered {what} few observations or a large error compared with the others."
    return (Problem(text, "", "odd"),)


def _listed(items: Sequence[str]) -> str:
    rest = len(items) - MAX_REASONS
    return "; ".join(items[:MAX_REASONS]) + (f"; {rest} other reason{'s' if rest > 1 else ''}" if rest > 0 else "")


def _are(num: int) -> str:
    return "is" if num == 1 else "are"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
