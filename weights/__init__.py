"""Weights by name: where they come from, and how they are fetched and checked.

`load` makes a ready matcher of a name, or a LoFTR matcher of a file. Importing this package loads neither torch nor the
network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfm.weights.registry import REGISTRY, Weights

if TYPE_CHECKING:
    from sfm.matchers.efficient_loftr.matcher import EfficientLoFTRMatcher
    from sfm.matchers.loftr.matcher import LoFTRMatcher

__all__ = ["REGISTRY", "Weights", "load"]


def load(name_or_path: str = "auto", **options: Any) -> LoFTRMatcher | EfficientLoFTRMatcher:
    """A ready matcher, `weights.load("outdoor", device="cuda")`; options as of sfm.matchers.loftr.checkpoint.load."""
    if name_or_path in REGISTRY and REGISTRY[name_or_path].matcher == "efficient-loftr":
        from sfm.matchers.efficient_loftr import checkpoint as of_efficient

        return of_efficient.load(name_or_path, **options)
    from sfm.matchers.loftr import checkpoint

    return checkpoint.load(name_or_path, **options)
