"""The matchers by name, and the one that the options name, with its weights on its device.

Another matcher is one file and one line in MATCHERS, or an entry point of the group loftr_sfm.matchers in another
package. torch is loaded only when one is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sfm.errors import BadOption
from sfm.matchers.base import Matcher
from sfm.options import MatchingOptions
from sfm.registry import Entry, Registry
from sfm.weights.registry import REGISTRY, check_name

log = logging.getLogger(__name__)
WITH_WEIGHTS = ("loftr", "efficient-loftr")  # matchers that --weights is for


def make_matcher(options: MatchingOptions) -> Matcher:
    """Ready to match; says in a line of the log which weights it uses and why. Raises BadFile and BadOption."""
    if len(one_by_one(options)) > 1:
        raise BadOption(f"--matcher {options.matcher}: only a whole run matches with several; give one of them here")
    make, argument = MATCHERS.choose(options.matcher)
    return make(options, argument)


def check_choice(options: MatchingOptions) -> None:
    """What can be known to be wrong before a matcher is loaded. Raises BadOption and BadFile."""
    for own in one_by_one(options):
        if own.matcher in WITH_WEIGHTS:
            check_name(own.weights, own.matcher)


def chosen_weights(options: MatchingOptions) -> tuple[str, Path] | None:
    """Name in the weights' registry (or what the file is called) and file of the weights of a matcher that has some."""
    if options.matcher == "loftr":
        from sfm.matchers.loftr import checkpoint

        choice = checkpoint.choose(options.weights, device=device_of(options), offline=options.offline)
        return choice.name, choice.path
    if options.matcher == "efficient-loftr":
        from sfm.matchers.efficient_loftr import checkpoint as of_efficient

        name = of_efficient.DEFAULT if options.weights == "auto" else options.weights
        return name, of_efficient.choose(options.weights, offline=options.offline).path
    return None


def one_by_one(options: MatchingOptions) -> tuple[MatchingOptions, ...]:
    """The options of each of the matchers that they name, "loftr+sift", in order. Raises BadOption.

    Weights known by name go to the matcher whose they are; beside it another one takes those that it takes by itself.
    """
    parts = MATCHERS.parts(options.matcher)
    known = REGISTRY.get(options.weights)
    given = {
        name: options.weights if known is None or known.matcher not in (set(parts) - {name}) else "auto"
        for name in parts
    }
    return tuple(replace(options, matcher=name, weights=weights) for name, weights in given.items())


def device_of(options: MatchingOptions) -> str:
    """The option's device, "auto" resolved. Raises BadOption where a GPU is asked for and there is none."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadOption("--device cuda: torch sees no CUDA device here; use --device cpu")
    return options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _loftr(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.loftr import checkpoint

    device = device_of(options)
    choice = checkpoint.choose(options.weights, device=device, offline=options.offline)
    log.warning("%s", choice.reason)
    if options.confidence is not None:
        choice = replace(choice, config=replace(choice.config, threshold=options.confidence))
    return checkpoint.load_matcher(choice, device=device, resize=options.resize, batch_size=options.batch)


def _efficient_loftr(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.efficient_loftr import checkpoint

    device = device_of(options)
    choice = checkpoint.choose(options.weights, offline=options.offline)
    log.warning("%s", choice.reason)
    return checkpoint.load_matcher(
        choice, device=device, resize=options.resize, batch_size=options.batch, threshold=options.confidence
    )


def _sift(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.sift import SiftMatcher

    default = type(options)()
    given = [name for name in ("weights", "resize", "confidence") if getattr(options, name) != getattr(default, name)]
    if given:
        log.warning("--matcher sift does not use %s", ", ".join(f"--{name}" for name in given))
    return SiftMatcher(device=device_of(options))


def _xfeat(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.keypoint_networks import MAX_SIZE, XFeatMatcher

    return XFeatMatcher(device=device_of(options), max_size=_pixels("xfeat", argument, MAX_SIZE))


def _aliked_lightglue(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.keypoint_networks import MAX_SIZE, AlikedLightGlueMatcher

    return AlikedLightGlueMatcher(device=device_of(options), max_size=_pixels("aliked-lightglue", argument, MAX_SIZE))


def _vismatch(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers import vismatch

    return vismatch.make(options, argument, device=device_of(options))


def _pixels(name: str, argument: str | None, default: int) -> int:
    """The longer side that larger images are reduced to. BadOption where it makes no sense."""
    if argument is None:
        return default
    if not (argument.isdecimal() and 64 <= int(argument) <= 16384):
        raise BadOption(f"--matcher {name}:{argument}: give the longer side of the images it sees, 64 to 16384 px")
    return int(argument)


# (options, what follows the name after a colon or None) -> a matcher that is ready
MakeMatcher = Callable[[MatchingOptions, str | None], Matcher]

MATCHERS: Registry[MakeMatcher] = Registry(
    "--matcher",
    "loftr_sfm.matchers",
    {
        "loftr": Entry("detector-free", _loftr),
        "efficient-loftr": Entry("its successor of 2024, for a GPU", _efficient_loftr),
        "sift": Entry("COLMAP's SIFT, for comparison", _sift),
        "xfeat": Entry("XFeat; pip install 'loftr-sfm[xfeat]'", _xfeat, argument="PX"),
        "aliked-lightglue": Entry("ALIKED and LightGlue; 'loftr-sfm[aliked]'", _aliked_lightglue, argument="PX"),
        "vismatch": Entry("any of fifty, where vismatch is installed", _vismatch, argument="NAME"),
    },
    joined=True,
)
