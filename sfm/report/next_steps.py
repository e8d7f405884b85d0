"""Commands that a page proposes, with the paths of the run that it shows, so that they work in any folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfm.results.hints import next_steps

FINER, FINEST = 1.6, 1600  # times the resolution, px
FOLDER_OPTIONS, FILE_OPTIONS = ("--masks", "--known-poses"), ("--pairs", "--weights")


def run_steps(record: Mapping[str, Any], level: str, out: Path, images: Path | None) -> list[dict[str, str]]:
    """What to run after a run whose verdict has this level, the most useful first: command and what it does.

    images: their folder, None where it is not known or has gone.
    """
    out = out.resolve()
    matching = record.get("options", {}).get("matching", {})
    matcher = str(matching.get("matcher", ""))
    lost = record["registered"] < record["images"]
    again = _again(record, out, images.resolve()) if images is not None and lost else []
    if level == "none":
        return [_step(*step) for step in again]
    after = next_steps(out if images is None else images.resolve(), out, "sift" if images is None else matcher)
    if level == "bad":
        after = [step for step in after if not step[0].startswith("loftr-sfm export")]
    return [_step(*step) for step in (*again[:1], *after)]


def comparison_steps(
    models: Sequence[Path], titles: Sequence[str], best: int | None, *, ground_truth: bool
) -> list[dict[str, str]]:
    """What to run after a comparison: with the best model, or to tell which it is. titles: of the models."""
    paths = [shlex.quote(str(path.resolve())) for path in models]
    found = []
    if not ground_truth:
        found.append(
            _step(
                f"loftr-sfm compare {' '.join(paths)} --ground-truth MODEL",
                "the same against ground truth, where there is some",
            )
        )
    for k in range(len(paths)) if best is None else (best,):
        found.append(_step(f"loftr-sfm view {paths[k]}", f"{titles[k]} in a window"))
    if best is not None:
        found.append(
            _step(f"loftr-sfm export {paths[best]} nerfstudio", f"{titles[best]} for NeRF and Gaussian splatting")
        )
    return found


def _step(command: str, what: str) -> dict[str, str]:
    return {"command": command, "what": what[:1].upper() + what[1:]}


def _again(record: Mapping[str, Any], out: Path, images: Path) -> list[tuple[str, str]]:
    """The same images in other ways, each into a folder of its own."""
    options = record.get("options", {})
    matching, resize = options.get("matching", {}), options.get("matching", {}).get("resize")
    if not record.get("error") and not record.get("models"):  # stopped on purpose
        return [(_command(record, out, images, "", {}), "go on from where it stopped")]
    found = []
    if matching.get("matcher") in ("loftr", "efficient-loftr") and isinstance(resize, int) and 0 < resize < FINEST:
        finer = min(FINEST, 32 * round(FINER * resize / 32))
        found.append(
            (
                _command(record, out, images, "-finer", {"--resize": str(finer)}),
                "the same, matched at a higher resolution",
            )
        )
    if options.get("pairs", {}).get("pairs") not in ("auto", "exhaustive", None):
        found.append((_command(record, out, images, "-all", {"--pairs": "exhaustive"}), "the same, every pair matched"))
    if matching.get("matcher") not in ("sift", None):
        found.append(
            (_command(record, out, images, "-sift", {"--matcher": "sift"}), "the same images by COLMAP's SIFT")
        )
    return found


def _command(record: Mapping[str, Any], out: Path, images: Path, suffix: str, changed: Mapping[str, str]) -> str:
    """The run's own command with other values, into the folder next to its own that bears the suffix."""
    target = out.with_name(out.name + suffix)
    if suffix and target.is_relative_to(images):  # nothing is written among the images
        target = images.with_name(f"{images.name}-{target.name}")
    return shlex.join(["loftr-sfm", str(images), str(target), *_kept(record, changed), *_flat(changed)])


def _kept(record: Mapping[str, Any], changed: Mapping[str, str]) -> list[str]:
    """The options of the run's command, but for those that are changed; none of a command of another kind."""
    try:
        words = shlex.split(str(record.get("command", "")))
    except ValueError:
        return []
    if words[:1] != ["loftr-sfm"] or words[1:2] == ["import"]:
        return []
    kept, flag = [], ""
    for word in words[3:]:
        if word.startswith("--"):
            flag, word_of = word.partition("=")[0], word
        else:
            word_of = _anywhere(flag, word)
        if flag not in changed:
            kept.append(word_of)
    return kept


def _anywhere(flag: str, value: str) -> str:
    """An option's value; a path that is there as an absolute one."""
    path = Path(value)
    there = path.is_dir() if flag in FOLDER_OPTIONS else flag in FILE_OPTIONS and path.is_file()
    return str(path.resolve()) if there else value


def _flat(changed: Mapping[str, str]) -> list[str]:
    return [word for item in changed.items() for word in item]
