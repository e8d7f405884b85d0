from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.images.index import index_images
from sfm.options import ImageOptions
from tests.support.pictures import H, W, picture, save


def notes(folder: Path, **options: object) -> tuple[str, ...]:
    return index_images(folder, ImageOptions(**options)).notes  # type: ignore[arg-type]


def test_nothing_is_said_of_images_alone(folder: Path) -> None:
    assert notes(folder) == ()


def test_files_that_are_left_out_are_grouped_by_kind(folder: Path) -> None:
    for name in ("a.mov", "tour.mp4", "scan.pdf", *(f"{i:04}.txt" for i in range(5000))):
        (folder / name).touch()
    (folder / "old").mkdir()
    (folder / "old/features.h5").touch()
    assert notes(folder) == (
        "folders of results of earlier runs (old) are left out",
        "videos (tour.mp4) are left out: give a video by itself",
        "clips of live photos (a.mov) are left out: their images are used",
        "documents (scan.pdf) are left out: export their pages as images",
        "text files (0000.txt, 0001.txt, 0002.txt and 4,997 more) are left out",
    )


def test_masks_that_were_found_and_those_of_no_image(folder: Path, tmp_path: Path) -> None:
    for name in ("a.jpg.png", "b_mask.png", "c.png"):
        save(tmp_path / "masks" / name, np.full((H, W), 255, np.uint8))
    assert notes(folder, masks=tmp_path / "masks") == (
        "masks: 1 of 2 images have one, each of its image's size; "
        f"2 files in {tmp_path / 'masks'} belong to no image: b_mask.png, c.png",
    )
    save(tmp_path / "masks/b.png", np.full((H, W), 255, np.uint8))
    (tmp_path / "masks/b_mask.png").unlink()
    (tmp_path / "masks/c.png").unlink()
    assert notes(folder, masks=tmp_path / "masks") == ("masks: 2 of 2 images have one, each of its image's size",)


def test_masks_of_which_none_fits_are_named(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "masks/a_mask.png", np.full((H, W), 255, np.uint8))
    with pytest.raises(
        BadFile, match=r"the mask of a\.jpg is a\.jpg\.png; 1 file in .*masks belongs? to no image: a_m"
    ):
        notes(folder, masks=tmp_path / "masks")


@pytest.mark.parametrize(
    ("names", "instead"),
    [
        (["clip.mp4", "b.mov"], "but videos: b.mov, clip.mp4"),
        (["scan.pdf"], "but scan.pdf"),
        (["out/features.h5", "out/matches.png"], "but results of earlier runs in out"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path: Path, names: list[str], instead: str) -> None:
    for name in names:
        save(tmp_path / name, picture(), format="PNG")
    with pytest.raises(BadFile, match=f"no images in it .*{instead}"):
        notes(tmp_path)
