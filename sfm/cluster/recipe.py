"""How a node makes the driver's matcher: by its options, with weights that were sent along where the node lacks them.

Weights travel as the bytes of their file, and are read by the node as the driver reads them: safetensors, or
weights_only. That the node's matcher is the driver's is seen from its provenance, which holds the weights' checksum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadFile, SfMError
from sfm.matchers.base import Matcher, Resizable
from sfm.matchers.registry import chosen_weights, make_matcher
from sfm.options import MatchingOptions
from sfm.weights.download import cache_folder, find
from sfm.weights.registry import REGISTRY


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What a node needs for the driver's matcher. options: the driver's, with weights by their name or file name.
    weights: the bytes of their file, None where they ship with the package, or there are none. provenance: of the
    driver's matcher. at_size: px of the images that it is for, where they have another size than the options say."""

    options: MatchingOptions
    provenance: dict[str, str]
    weights: NDArray[np.uint8] | None = None
    at_size: int | None = None

    def make(self, device: str) -> Matcher:
        """The matcher on a device of this machine. Raises SfMError where it is not the driver's."""
        options = replace(self.options, device=device, offline=True)
        if self.weights is None:
            matcher = make_matcher(options)
        elif options.weights in REGISTRY:
            self._put_into_cache(options.weights)
            matcher = make_matcher(options)
        else:
            with TemporaryDirectory(prefix="loftr-sfm-") as folder:
                path = Path(folder, Path(options.weights).name)
                self.weights.tofile(path)
                matcher = make_matcher(replace(options, weights=str(path)))
        if self.at_size is not None and isinstance(matcher, Resizable):
            matcher = matcher.at_size(self.at_size)
        return self._checked(matcher)

    def _checked(self, matcher: Matcher) -> Matcher:
        own = matcher.provenance
        differing = [key for key in {**self.provenance, **own} if self.provenance.get(key) != own.get(key)]
        if differing:
            words = ", ".join(
                f"{key} {own.get(key)} instead of {self.provenance.get(key)}" for key in sorted(differing)
            )
            raise SfMError(f"its matcher differs from the driver's ({words}); give the nodes what the driver has")
        return matcher

    def _put_into_cache(self, name: str) -> None:
        """As if the node had downloaded them; nothing where it has."""
        assert self.weights is not None
        weights = REGISTRY[name]
        if find(weights) is not None:
            return
        target = cache_folder() / weights.file_names[0]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=target.parent) as folder:
                part = Path(folder, target.name)
                self.weights.tofile(part)
                part.replace(target)
        except OSError as error:
            raise BadFile(f"{target}: cannot be written ({error.strerror}); set LOFTR_SFM_CACHE on the node") from None


def recipe_of(options: MatchingOptions, matcher: Matcher, *, at_size: int | None = None) -> Recipe:
    """The recipe of the matcher that the driver made of these options. at_size: as of Recipe."""
    chosen = chosen_weights(options)
    if chosen is None:
        return Recipe(options, matcher.provenance, at_size=at_size)
    name, path = chosen
    if name in REGISTRY and options.weights in ("auto", name):
        named = replace(options, weights=name)
        shipped = REGISTRY[name].embedded is None
        return Recipe(named, matcher.provenance, np.fromfile(path, np.uint8) if shipped else None, at_size)
    named = replace(options, weights=path.name)
    return Recipe(named, matcher.provenance, np.fromfile(path, np.uint8), at_size)
