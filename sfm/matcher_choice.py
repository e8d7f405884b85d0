"""From the matching options to a ready matcher."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from sfm.errors import BadOption
from sfm.matchers.base import Matcher
from sfm.options import MatchingOptions

log = logging.getLogger(__name__)


def load_matcher(options: MatchingOptions) -> Matcher:
    """The matcher that the options name, ready; says which weights it has and why. BadFile, BadOption."""
    return MATCHERS[options.matcher](options)


def choose_device(options: MatchingOptions) -> str:
    """The option's device, "auto" resolved. Raises BadOption where a GPU is asked for and there is none."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadOption("--device cuda: torch sees no CUDA device here; use --device cpu")
    return options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _loftr(options: MatchingOptions) -> Matcher:
    from sfm import weights  # torch is loaded only where something is matched

    device = choose_device(options)
    choice = weights.choose(options.weights, device=device, offline=options.offline)
    log.warning("%s", choice.reason)
    if options.confidence is not None:
        choice = replace(choice, config=replace(choice.config, threshold=options.confidence))
    return weights.load_matcher(choice, device=device, resize=options.resize, batch_size=options.batch)


def _sift(options: MatchingOptions) -> Matcher:
    from sfm.matchers.sift import SiftMatcher

    return SiftMatcher(device=choose_device(options))


MATCHERS: dict[str, Callable[[MatchingOptions], Matcher]] = {"loftr": _loftr, "sift": _sift}
