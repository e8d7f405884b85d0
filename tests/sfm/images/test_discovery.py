import os
import sys
from pathlib import Path

import pytest

from sfm.errors import BadFile
from sfm.images.discovery import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files that look like images; nothing is opened, so their content does not matter."""
    write(tmp_path / "photos", "a.jpg", "b.png")
    return tmp_path / "photos"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_find_takes_images_only_and_sorts_posix_names(folder: Path) -> None:
    write(folder, "z/c.JPEG", "a/d.webp", "e.TIF", "Z.jpg")
    write(folder, ".hidden.jpg", "._a.jpg", ".git/x.jpg", "__MACOSX/a.jpg", "notes.txt", "scene.json")
    found = find_images(folder)
    assert found.names == ("Z.jpg", "a.jpg", "a/d.webp", "b.png", "e.TIF", "z/c.JPEG")
    assert found.skipped == ()
    assert [name for name, _ in found.others] == ["notes.txt", "scene.json"]
    assert (found.videos, found.results) == ((), ())


def test_find_survives_loops_of_links_and_follows_links(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/far.jpg")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    (folder / "one.jpg").symlink_to("two.jpg")
    (folder / "two.jpg").symlink_to("one.jpg")
    found = find_images(folder)
    assert found.names == ("a.jpg", "b.png", "linked/far.jpg")
    assert dict(found.skipped) == {
        "broken.jpg": "cannot be read (No such file or directory)",
        "one.jpg": "cannot be read (Too many levels of symbolic links)",
        "two.jpg": "cannot be read (Too many levels of symbolic links)",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_find_skips_names_that_are_not_utf8_and_pipes(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    os.mkfifo(folder / "pipe.jpg")
    assert find_images(folder).skipped == (
        ("caf\\xe9.jpg", "its name is not valid UTF-8: rename it"),
        ("pipe.jpg", "not a regular file"),
    )


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x07", "\u2028", "\x85"])
def test_find_skips_names_with_control_characters_and_shows_them_in_one_line(folder: Path, character: str) -> None:
    write(folder, f"a{character}b.jpg", f"sub{character}/c.jpg")
    ((name, reason), (below, _)) = find_images(folder).skipped
    assert reason == "its name has a line break or another control character: rename it"
    assert name == f"a{character.encode('unicode_escape').decode()}b.jpg"
    assert all(shown.isprintable() for shown in (name, below))


def test_find_says_which_folders_it_cannot_look_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "closed/c.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(folder)
    assert found.names == ("a.jpg", "b.png")
    assert found.skipped == (("closed", "the folder cannot be read (Permission denied)"),)


def test_find_refuses_a_terabyte_without_opening_it(folder: Path) -> None:
    os.truncate(folder / "a.jpg", 1 << 40)
    assert find_images(folder).skipped == (("a.jpg", "1100 GB is too large for an image"),)


def test_find_refuses_what_is_no_folder(folder: Path) -> None:
    with pytest.raises(BadFile, match="no such folder"):
        find_images(folder / "absent")
    with pytest.raises(BadFile, match=r"a\.jpg: not a folder"):
        find_images(folder / "a.jpg")


def test_clips_of_live_photos_are_told_from_videos(folder: Path) -> None:
    write(
        folder, "IMG_1.HEIC", "IMG_1.MOV", "IMG_1.AAE", "sub/img_2.jpeg", "sub/IMG_2.mov", "tour.MP4", "sub/IMG_1.MOV"
    )
    found = find_images(folder)
    assert found.names == ("IMG_1.HEIC", "a.jpg", "b.png", "sub/img_2.jpeg")
    assert found.videos == ("sub/IMG_1.MOV", "tour.MP4")
    assert dict(found.others) == {
        "IMG_1.AAE": ("sidecar files of images", ""),
        "IMG_1.MOV": ("clips of live photos", "their images are used"),
        "sub/IMG_2.mov": ("clips of live photos", "their images are used"),
    }


def test_files_of_other_kinds_have_a_name_and_advice(folder: Path) -> None:
    write(folder, "scan.PDF", "art.psd", "logo.svg", "all.zip", "what.xyz", "x.exr")
    found = find_images(folder)
    assert dict(found.others) == {
        "scan.PDF": ("documents", "export their pages as images"),
        "art.psd": ("layered images", "export them as PNG or TIFF"),
        "logo.svg": ("vector graphics", "export them as PNG"),
        "all.zip": ("archives", "unpack them"),
        "what.xyz": ("files of other kinds", ""),
    }
    assert found.skipped == (("x.exr", "EXR is not supported: convert to JPEG"),)


@pytest.mark.parametrize(
    "files",
    [
        ["features.h5"],
        ["run.json", "sparse/0/images.bin"],
        ["refine.json", "sparse/0/images.bin"],
        ["two_view.json", "matches.npz"],
    ],
)
def test_results_of_ours_below_the_images_are_not_searched(folder: Path, files: list[str]) -> None:
    write(
        folder,
        "deep/c.jpg",
        "deep/out/matches.png",
        "deep/out/nerfstudio/images/a.jpg",
        *(f"deep/out/{f}" for f in files),
    )
    found = find_images(folder)
    assert found.names == ("a.jpg", "b.png", "deep/c.jpg")
    assert found.results == ("deep/out",)


def test_a_json_of_somebody_elses_is_no_result_of_ours(folder: Path) -> None:
    write(folder, "theirs/run.json", "theirs/c.jpg", "scene/transforms.json", "scene/d.jpg")
    found = find_images(folder)
    assert found.names == ("a.jpg", "b.png", "scene/d.jpg", "theirs/c.jpg")
    assert found.results == ()


def test_the_output_is_not_searched_before_it_holds_anything(folder: Path) -> None:
    write(folder, "out/c.jpg")
    assert find_images(folder, exclude=[folder / "out"]).names == ("a.jpg", "b.png")


def test_exports_into_the_folder_of_the_images_are_not_searched(folder: Path) -> None:
    """Of a run whose output is the folder of its images."""
    write(folder, "features.h5", "run.json", "sparse/0/images.bin", "more/c.jpg")
    write(folder, "nerfstudio/transforms.json", "nerfstudio/images/a.jpg", "undistorted/images/a.jpg")
    write(folder, "undistorted/sparse/cameras.bin")
    found = find_images(folder, exclude=[folder])
    assert found.names == ("a.jpg", "b.png", "more/c.jpg")
    assert found.results == ("nerfstudio", "undistorted")


def test_raw_images_without_the_extra_say_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "x.DNG", "y.cr3")
    assert find_images(folder).names == ("a.jpg", "b.png", "x.DNG", "y.cr3")
    monkeypatch.setitem(sys.modules, "rawpy", None)
    assert find_images(folder).skipped == tuple(
        (name, "RAW images need pip install 'loftr-sfm[raw]'") for name in ("x.DNG", "y.cr3")
    )
