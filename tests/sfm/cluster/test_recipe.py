from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import pytest

from sfm.cluster.recipe import recipe_of
from sfm.errors import SfMError
from sfm.matchers.registry import make_matcher
from sfm.options import MatchingOptions
from sfm.weights.registry import REGISTRY, Weights
from tests.support.efficient_loftr import random_state, save_checkpoint

SMALL = MatchingOptions(device="cpu", resize=128, confidence=0.3, offline=True)


def made_elsewhere(options, monkeypatch=None, cache=None):
    """The recipe as a node gets it, and the driver's provenance."""
    matcher = make_matcher(options)
    return pickle.loads(pickle.dumps(recipe_of(options, matcher))), matcher.provenance


def test_weights_that_ship_with_the_package_are_found_by_name():
    recipe, provenance = made_elsewhere(SMALL)
    assert recipe.weights is None
    assert recipe.options.weights == "compact"
    assert recipe.make("cpu").provenance == provenance


def test_a_file_is_sent_and_keeps_its_name(tmp_path):
    path = tmp_path / "mine.safetensors"
    shutil.copyfile(REGISTRY["compact"].embedded, path)
    recipe, provenance = made_elsewhere(replace(SMALL, weights=str(path)))
    path.unlink()
    assert recipe.weights.nbytes == REGISTRY["compact"].size
    assert recipe.make("cpu").provenance == provenance
    assert provenance["matcher"] == "loftr-mine"


def test_downloaded_weights_are_put_into_the_nodes_cache(tmp_path, monkeypatch):
    own = REGISTRY["compact"]
    other = Weights(
        "far", "of a server", "compact", ("far.safetensors",), ("http://127.0.0.1:1/far",), own.size, own.sha256
    )
    monkeypatch.setitem(REGISTRY, "far", other)
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path / "driver"))
    (tmp_path / "driver" / "weights").mkdir(parents=True)
    shutil.copyfile(own.embedded, tmp_path / "driver" / "weights" / "far.safetensors")
    recipe, provenance = made_elsewhere(replace(SMALL, weights="far"))
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path / "node"))
    assert recipe.make("cpu").provenance == provenance
    assert [path.name for path in (tmp_path / "node" / "weights").iterdir()] == ["far.safetensors"]


def test_efficient_loftr_travels_too(tmp_path, monkeypatch):
    """A file by its name; weights by name into the node's cache, whichever of its forms the driver has."""
    path = save_checkpoint(tmp_path / "mine.ckpt", random_state())
    recipe, provenance = made_elsewhere(replace(SMALL, matcher="efficient-loftr", weights=str(path)))
    assert recipe.options.weights == "mine.ckpt"
    assert recipe.make("cpu").provenance == provenance
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path / "driver"))
    (tmp_path / "driver" / "weights").mkdir(parents=True)
    path.rename(tmp_path / "driver" / "weights" / "eloftr_outdoor.ckpt")
    recipe, provenance = made_elsewhere(replace(SMALL, matcher="efficient-loftr"))
    assert recipe.options.weights == "eloftr-outdoor"
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path / "node"))
    assert recipe.make("cpu").provenance == provenance
    assert provenance["matcher"] == "efficient-loftr-outdoor"


def test_the_matcher_for_small_images_is_made_as_well():
    small = make_matcher(SMALL).at_size(64)
    recipe = pickle.loads(pickle.dumps(recipe_of(SMALL, small, at_size=64)))
    assert recipe.make("cpu").provenance == small.provenance
    assert small.provenance["resize"] == "64"


def test_a_matcher_that_is_not_the_drivers_is_refused():
    recipe, provenance = made_elsewhere(SMALL)
    other = replace(recipe, provenance={**provenance, "weights_sha256": "0" * 64})
    with pytest.raises(SfMError, match=r"differs from the driver's \(weights_sha256 e59b.* instead of 0000"):
        other.make("cpu")


def test_a_matcher_without_weights_is_made_of_its_options():
    recipe, provenance = made_elsewhere(MatchingOptions(matcher="sift", device="cpu"))
    assert recipe.weights is None
    assert recipe.make("cpu").provenance == provenance
