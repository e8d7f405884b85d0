from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile, BadOption
from sfm.match_graph import REASONS
from sfm.pairs import retrieval, sequential
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.registry import PAIR_SELECTORS, choose, versions
from sfm.pairs.sequential import neighbours
from sfm.registry import Entry
from sfm.types import ImagePair
from tests.support.image_sets import image_set

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    return path


def test_choose_by_word() -> None:
    assert choose("auto", image_set(NAMES)).pairs == choose("exhaustive", image_set(NAMES)).pairs == all_pairs(NAMES)
    assert choose("sequential", image_set(NAMES)).pairs == neighbours(NAMES, 10)
    assert choose("sequential:2", image_set(NAMES)).pairs == neighbours(NAMES, 2)


def test_choose_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jpg d.jpg\n")
    assert choose(str(path), image_set(NAMES)).pairs == (ImagePair("a.jpg", "d.jpg"),)


@pytest.mark.parametrize("spec", ["sequential:0", "sequential:", "sequential:-1", "sequential:x", "sequential:1.5"])
def test_choose_refuses_a_bad_overlap(spec: str) -> None:
    with pytest.raises(BadOption, match="whole number"):
        choose(spec, image_set(NAMES))


def test_choose_refuses_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"absent\.txt: no such file"):
        choose(str(tmp_path / "absent.txt"), image_set(NAMES))


def test_selectors_are_joined_by_plus() -> None:
    joined = choose("sequential:1+exhaustive", image_set(NAMES))
    assert joined.pairs[:3] == neighbours(NAMES, 1)
    assert set(joined.pairs) == set(all_pairs(NAMES))
    assert len(joined.pairs) == 6
    assert choose("sequential:1+sequential:2", image_set(NAMES)).pairs[:3] == neighbours(NAMES, 1)


def test_joined_selectors_go_on_with_the_candidates_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i:03}.jpg" for i in range(60)]
    place = np.arange(60)
    similarity = np.exp(-np.abs(place[:, None] - place) / 9).astype(np.float32)
    for module in (retrieval, sequential):
        monkeypatch.setattr(module, "similarity_of", lambda images: (names, similarity))
    chosen = choose("sequential:3+retrieval:10", image_set(names))
    alone = choose("retrieval:10", image_set(names))
    row = choose("sequential:3", image_set(names))
    assert chosen.candidates is not None
    assert alone.candidates is not None
    assert row.candidates is None
    assert set(chosen.pairs) == {*row.pairs, *alone.pairs}
    assert chosen.candidates.budget == alone.candidates.budget + len(row.pairs)
    reasons = {
        (names[i], names[j]): list(REASONS)[n]
        for (i, j), n in zip(chosen.candidates.rows.tolist(), chosen.candidates.reason.tolist(), strict=True)
    }
    assert all(reasons[pair.name0, pair.name1] == "row" for pair in row.pairs)
    assert "alike" in reasons.values()


def test_a_wrong_part_of_a_joined_value_is_named() -> None:
    with pytest.raises(BadFile, match=r"--pairs retreival:5: no such file, .*did you mean retrieval\?"):
        choose("sequential+retreival:5", image_set(NAMES))


def test_versions_of_all_parts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("mine", lambda images, argument: ChosenPairs(()), argument="N", version="7")
    monkeypatch.setitem(PAIR_SELECTORS.built_in, "mine", entry)  # type: ignore[arg-type]
    assert versions("exhaustive+mine:2", 10) == ("7",)
    assert versions("sequential:5+mine:2", 10) == ("2", "7")
    assert versions("auto", 100) == ()
    assert versions("auto", 101) == ("3",)


def test_a_selector_of_another_package_gets_the_images_and_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(images: ImageSet, argument: str | None) -> ChosenPairs:
        return ChosenPairs(all_pairs(images.names[: int(argument or 2)]))

    monkeypatch.setitem(PAIR_SELECTORS.built_in, "first", Entry("the first N", first, argument="N"))  # type: ignore[arg-type]
    assert choose("first:3", image_set(NAMES)).pairs == all_pairs(NAMES[:3])
    assert choose("first", image_set(NAMES)).pairs == all_pairs(NAMES[:2])
    with pytest.raises(BadFile, match=r"none of auto, exhaustive, sequential\[:N\], .*first\[:N\]$"):
        choose("last", image_set(NAMES))
    with pytest.raises(BadOption, match="exhaustive takes no argument"):
        choose("exhaustive:2", image_set(NAMES))
