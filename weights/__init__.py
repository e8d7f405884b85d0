"""Weights: a name or a file in, a ready LoFTR matcher out.

`choose` decides which weights a run uses and why; `load` makes the matcher. Importing this package
loads neither torch nor the network.
"""

from sfm.weights.loading import Choice, choose, load, load_matcher, load_state_dict
from sfm.weights.registry import REGISTRY, Weights
from sfm.weights.verbs import check_text, fetch_text, list_text

__all__ = [
    "REGISTRY",
    "Choice",
    "Weights",
    "check_text",
    "choose",
    "fetch_text",
    "list_text",
    "load",
    "load_matcher",
    "load_state_dict",
]
