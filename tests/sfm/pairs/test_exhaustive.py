from __future__ import annotations

import pytest

from sfm.pairs.exhaustive import all_pairs

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_exhaustive_has_every_pair_once(count: int) -> None:
    names = [f"{i}.jpg" for i in range(count)]
    pairs = all_pairs(names)
    assert len(pairs) == len(set(pairs)) == count * (count - 1) // 2
    assert {name for pair in pairs for name in (pair.name0, pair.name1)} == (set(names) if count > 1 else set())
