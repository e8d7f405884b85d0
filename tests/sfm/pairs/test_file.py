from __future__ import annotations

from pathlib import Path

import pytest

from sfm.errors import BadFile
from sfm.pairs.file import from_file
from sfm.types import ImagePair

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    return path


def test_file_in_hlocs_format(tmp_path: Path) -> None:
    chosen = from_file(written(tmp_path, "# by hand\nb.jpg a.jpg\r\n\n  c.jpg\td.jpg  \n"), NAMES)
    assert chosen.pairs == (ImagePair("a.jpg", "b.jpg"), ImagePair("c.jpg", "d.jpg"))
    assert (chosen.dropped, chosen.note) == (0, "")


def test_file_drops_doubles_and_self_pairs_and_skipped_images(tmp_path: Path) -> None:
    text = "a.jpg b.jpg\nb.jpg a.jpg\nc.jpg c.jpg\na.jpg corrupt.jpg\n"
    chosen = from_file(written(tmp_path, text), NAMES, skipped=["corrupt.jpg"])
    assert chosen.pairs == (ImagePair("a.jpg", "b.jpg"),)
    assert chosen.dropped == 3
    assert "3 line(s)" in chosen.note


def test_file_with_spaces_in_names_and_a_byte_order_mark(tmp_path: Path) -> None:
    names = ["my image.jpg", "other  image.jpg", "x.jpg"]
    text = "\ufeffmy image.jpg other  image.jpg\nx.jpg my image.jpg\n"
    assert from_file(written(tmp_path, text), names).pairs == (
        ImagePair("my image.jpg", "other  image.jpg"),
        ImagePair("my image.jpg", "x.jpg"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg b.jpg\na.jpg zz.jpg\n", "line 2: no image 'zz.jpg'"),
        ("zz.jpg b.jpg\n", "line 1: no image 'zz.jpg'"),
        ("yy.jpg zz.jpg\n", "line 1: no image 'yy.jpg'"),
        ("a.jpg\n", "line 1: 'a.jpg' is not two names"),
        ("u v w\n", "line 1: 'u v w' is not two names"),
        ("", "no pair of two usable images"),
        ("a.jpg a.jpg\n", "no pair of two usable images"),
    ],
)
def test_bad_file_names_file_line_and_image(tmp_path: Path, text: str, message: str) -> None:
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
