from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sfm.errors import BadOption
from sfm.pairs.likeness import similarity
from sfm.pairs.likeness.similarity import similarities


def places(num: int, views: int, seed: int = 0) -> list[NDArray[np.float16]]:
    """Descriptors of `views` images of each of `num` places: the same 200 ones with noise."""
    rng = np.random.default_rng(seed)
    scenes = rng.normal(size=(num, 200, 16))
    return [(scene + 0.3 * rng.normal(size=scene.shape)).astype(np.float16) for scene in scenes for _ in range(views)]


def test_images_of_one_place_are_most_alike() -> None:
    found = similarities(places(6, 4))
    assert found.shape == (24, 24)
    assert np.array_equal(found, found.T)
    assert np.array_equal(np.diag(found), np.ones(24))
    np.fill_diagonal(found, 0)
    nearest = np.argsort(-found, axis=1)[:, :3]
    assert (nearest // 4 == np.arange(24)[:, None] // 4).all()


def test_the_same_images_are_equally_alike_every_time() -> None:
    descriptors = places(3, 3)
    assert np.array_equal(similarities(descriptors), similarities(descriptors))


def test_images_without_descriptors_are_like_nothing() -> None:
    descriptors = places(2, 2)
    found = similarities([*descriptors, descriptors[0][:0]])
    assert found[4].tolist() == [0, 0, 0, 0, 1]
    assert np.array_equal(similarities([descriptors[0][:0]] * 3), np.eye(3))
    assert similarities([]).shape == (0, 0)


def test_a_set_too_large_for_the_memory_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity.memory, "free", lambda: 10**9)
    similarity.check_fits(15_000)
    with pytest.raises(BadOption, match=r"of 20,000 images with each other takes 1\.6 GB, 1\.0 GB are free; give"):
        similarity.check_fits(20_000)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = places(5, 5)
    whole = similarities(descriptors)
    monkeypatch.setattr(similarity, "_ROWS", 7)
    np.testing.assert_allclose(similarities(descriptors), whole, atol=1e-6)
