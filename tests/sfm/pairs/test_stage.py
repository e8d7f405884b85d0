from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile, BadOption
from sfm.options import PairOptions
from sfm.pairs.stage import choose, exhaustive, from_file, run, sequential
from sfm.types import CameraPrior, ImagePair, ImageRecord, StageSummary

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_exhaustive_has_every_pair_once(count: int) -> None:
    names = [f"{i}.jpg" for i in range(count)]
    pairs = exhaustive(names)
    assert len(pairs) == len(set(pairs)) == count * (count - 1) // 2
    assert {name for pair in pairs for name in (pair.name0, pair.name1)} == (set(names) if count > 1 else set())


def test_sequential_takes_the_next_ones() -> None:
    assert sequential(NAMES, 1) == (
        ImagePair("a.jpg", "b.jpg"),
        ImagePair("b.jpg", "c.jpg"),
        ImagePair("c.jpg", "d.jpg"),
    )
    assert len(sequential(NAMES, 2)) == 3 + 2
    assert set(sequential(NAMES, 99)) == set(exhaustive(NAMES))


def test_sequential_counts_numbers_as_numbers() -> None:
    names = [f"f{i}.jpg" for i in (1, 10, 11, 2, 9)]
    neighbours = [(1, 2), (2, 9), (9, 10), (10, 11)]
    assert sequential(names, 1) == tuple(ImagePair.of(f"f{i}.jpg", f"f{j}.jpg") for i, j in neighbours)


def test_sequential_orders_names_that_differ_in_leading_zeros_only() -> None:
    assert sequential(["f01.jpg", "f1.jpg", "2/f.jpg", "f.jpg"], 9)  # any mixture of text and digits can be sorted


def test_file_in_hlocs_format(tmp_path: Path) -> None:
    chosen = from_file(written(tmp_path, "b.jpg a.jpg\r\n\n  c.jpg\td.jpg  \n"), NAMES)
    assert chosen.pairs == (ImagePair("a.jpg", "b.jpg"), ImagePair("c.jpg", "d.jpg"))
    assert (chosen.dropped, chosen.note) == (0, "")


def test_file_drops_doubles_and_self_pairs_and_skipped_photos(tmp_path: Path) -> None:
    text = "a.jpg b.jpg\nb.jpg a.jpg\nc.jpg c.jpg\na.jpg corrupt.jpg\n"
    chosen = from_file(written(tmp_path, text), NAMES, skipped=["corrupt.jpg"])
    assert chosen.pairs == (ImagePair("a.jpg", "b.jpg"),)
    assert chosen.dropped == 3
    assert "3 line(s)" in chosen.note


def test_file_with_spaces_in_names_and_a_byte_order_mark(tmp_path: Path) -> None:
    names = ["my photo.jpg", "other  photo.jpg", "x.jpg"]
    text = "\ufeffmy photo.jpg other  photo.jpg\nx.jpg my photo.jpg\n"
    assert from_file(written(tmp_path, text), names).pairs == (
        ImagePair("my photo.jpg", "other  photo.jpg"),
        ImagePair("my photo.jpg", "x.jpg"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg b.jpg\na.jpg zz.jpg\n", "line 2: no photo 'zz.jpg'"),
        ("zz.jpg b.jpg\n", "line 1: no photo 'zz.jpg'"),
        ("yy.jpg zz.jpg\n", "line 1: no photo 'yy.jpg'"),
        ("a.jpg\n", "line 1: 'a.jpg' is not two names"),
        ("u v w\n", "line 1: 'u v w' is not two names"),
        ("", "no pair of two usable photos"),
        ("a.jpg a.jpg\n", "no pair of two usable photos"),
    ],
)
def test_bad_file_names_file_line_and_photo(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadFile) as error:
        from_file(path, NAMES)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_line_that_can_be_read_in_two_ways(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="more than one pair"):
        from_file(written(tmp_path, "a b c\n"), ["a", "b c", "a b", "c"])


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "pairs.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(BadFile, match="not a text file"):
        from_file(path, NAMES)
    with pytest.raises(BadFile, match="cannot be read"):
        from_file(tmp_path, NAMES)


def test_choose_by_word() -> None:
    assert choose("auto", NAMES).pairs == choose("exhaustive", NAMES).pairs == exhaustive(NAMES)
    assert choose("sequential", NAMES).pairs == sequential(NAMES, 10)
    assert choose("sequential:2", NAMES).pairs == sequential(NAMES, 2)


def test_choose_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jpg d.jpg\n")
    assert choose(str(path), NAMES).pairs == (ImagePair("a.jpg", "d.jpg"),)


@pytest.mark.parametrize("spec", ["sequential:0", "sequential:", "sequential:-1", "sequential:x", "sequential:1.5"])
def test_choose_refuses_a_bad_overlap(spec: str) -> None:
    with pytest.raises(BadOption, match="whole number"):
        choose(spec, NAMES)


def test_choose_refuses_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"absent\.txt: no such file"):
        choose(str(tmp_path / "absent.txt"), NAMES)


def test_auto_says_how_long_many_photos_take() -> None:
    names = [f"{i:04}.jpg" for i in range(201)]
    assert choose("auto", names[:200]).note == ""
    assert choose("exhaustive", names).note == ""
    chosen = choose("auto", names)
    assert len(chosen.pairs) == 20_100
    assert "20,100 pairs" in chosen.note
    assert "--pairs sequential" in chosen.note


class Store:
    """The three methods of the feature database that the stage calls."""

    def __init__(self) -> None:
        self.pairs: tuple[ImagePair, ...] = ()

    def read_images(self) -> tuple[ImageRecord, ...]:
        camera = CameraPrior("SIMPLE_PINHOLE", np.array([1.0, 1, 1]), False, "single")
        return tuple(ImageRecord(name, 64, 48, camera, "00") for name in NAMES)

    def summary(self, stage: str) -> StageSummary | None:
        return StageSummary(stage, {}, 0.0, (("corrupt.jpg", "the file is empty"),))

    def write_pairs(self, pairs: tuple[ImagePair, ...]) -> None:
        self.pairs = tuple(pairs)


def test_run_writes_the_pairs_and_counts_what_was_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = Store()
    summary = run(db, PairOptions(str(written(tmp_path, "a.jpg b.jpg\ncorrupt.jpg b.jpg\n"))))
    assert db.pairs == (ImagePair("a.jpg", "b.jpg"),)
    assert summary.counts == {"images": 4, "pairs": 1, "dropped": 1}
    assert "1 line(s)" in caplog.text
