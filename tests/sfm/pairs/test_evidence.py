"""What a set of images says of itself: rows by name or time, positions that can be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sfm.pairs.base import ImageSet
from sfm.pairs.evidence import located, rows_in
from tests.support.drone_scene import names_of, records_of, strips, tags_of
from tests.support.image_sets import image_set

NAMES = [f"v_{i:04}.jpg" for i in range(60)]
ENU = strips() * [1, 1, 0]


def near_by(places: NDArray[np.float64], *, scale: float = 8.0, seed: int = 0) -> NDArray[np.float32]:
    """(N, N) likeness of images at these places (N, D), noisy."""
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.2, distance.shape))
    found = np.clip(np.exp(-distance / scale) * np.minimum(noise, noise.T), 0, 1).astype(np.float32)
    np.fill_diagonal(found, 1)
    return np.minimum(found, found.T)


def line(order: NDArray[np.int64]) -> NDArray[np.float32]:
    return near_by(order[:, None].astype(np.float64))


def test_frames_in_the_order_of_their_names_are_a_row() -> None:
    (row,) = rows_in(image_set(NAMES), line(np.arange(60)))
    assert row.by == "name"
    assert row.places == tuple(range(60))
    assert row.share > 0.9


def test_images_in_no_order_are_no_row() -> None:
    order = np.random.default_rng(1).permutation(60)
    assert rows_in(image_set(NAMES), line(order)) == []
    unlike = near_by(np.random.default_rng(2).normal(0, 100, (60, 3)))
    assert rows_in(image_set(NAMES), unlike) == []


def test_the_times_are_the_order_where_the_names_are_not() -> None:
    order = np.random.default_rng(1).permutation(60)
    images = image_set(NAMES)
    records = tuple(replace(r, taken_at=1000.0 + 2 * when) for r, when in zip(images.records, order, strict=True))
    (row,) = rows_in(replace(images, records=records), line(order))
    assert row.by == "time"
    assert row.places == tuple(np.argsort(order).tolist())
    one_time = tuple(replace(record, taken_at=1000.0) for record in images.records)
    assert rows_in(replace(images, records=one_time), line(order)) == []


def test_each_folder_is_judged_alone_and_videos_are_rows_whatever_they_look_like() -> None:
    names = [*(f"a/{name}" for name in NAMES), *(f"b/{name}" for name in NAMES), "c/0.jpg", "c/1.jpg"]
    order = np.concatenate([np.arange(60), 500 + np.random.default_rng(1).permutation(60), [900, 901]])
    similarity = line(order)
    (row,) = rows_in(image_set(names), similarity)
    assert row.places == tuple(range(60))
    rows = rows_in(replace(image_set(names), clips=frozenset({"b"})), similarity)
    assert [(r.by, len(r.places)) for r in rows] == [("name", 60), ("video", 60)]


def test_few_images_are_no_row() -> None:
    assert rows_in(image_set(NAMES[:6]), line(np.arange(6))) == []
    assert rows_in(image_set(NAMES[:12]), np.full((12, 12), 0.5, np.float32) + line(np.arange(12))) != []


def drone(tags: list) -> ImageSet:
    return ImageSet(records_of(tags), Path())


def test_positions_near_which_images_look_alike_are_used() -> None:
    where = located(drone(tags_of(ENU)), near_by(ENU, scale=20))
    assert where is not None
    assert where.places.tolist() == list(range(len(ENU)))
    steps = np.linalg.norm(np.diff(where.points, axis=0), axis=1)
    np.testing.assert_allclose(steps, np.linalg.norm(np.diff(ENU, axis=0), axis=1), rtol=0.01, atol=0.05)


def test_single_wrong_positions_do_no_harm() -> None:
    wrong = ENU.copy()
    wrong[[5, 17, 30]] += [5000, -3000, 0]
    assert located(drone(tags_of(wrong)), near_by(ENU, scale=20)) is not None


def test_positions_that_contradict_what_the_images_look_like_are_not_used() -> None:
    shuffled = ENU[np.random.default_rng(3).permutation(len(ENU))]
    assert located(drone(tags_of(shuffled)), near_by(ENU, scale=20)) is None


def test_one_repeated_position_and_few_positions_are_not_used() -> None:
    assert located(drone(tags_of(np.zeros_like(ENU))), near_by(ENU, scale=20)) is None
    few = [tag if i % 3 == 0 else None for i, tag in enumerate(tags_of(ENU))]
    assert located(drone(few), near_by(ENU, scale=20)) is None
    most = [None if i % 3 == 0 else tag for i, tag in enumerate(tags_of(ENU))]
    where = located(drone(most), near_by(ENU, scale=20))
    assert where is not None
    assert where.places.tolist() == [i for i in range(len(names_of(len(ENU)))) if i % 3]


@pytest.mark.parametrize("num", [0, 1])
def test_hardly_any_images(num: int) -> None:
    images = image_set(NAMES[:num])
    assert rows_in(images, np.eye(num, dtype=np.float32)) == []
    assert located(images, np.eye(num, dtype=np.float32)) is None
