from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sfm.errors import BadFile, BadOption
from sfm.images.discovery import find_images
from sfm.images.video.records import clip_folders
from sfm.images.video.source import ImageSource, is_video, prepare
from tests.support.clips import pan, write_clip
from tests.support.pictures import picture, save

PAN = range(0, 120, 6)


def names(source: ImageSource) -> list[str]:
    return list(find_images(source.folder).names)


def test_a_folder_without_videos_is_itself(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.jpg", picture())
    assert prepare(tmp_path / "images", tmp_path / "out", None) == ImageSource(tmp_path / "images")
    assert not (tmp_path / "out").exists()


def test_a_video_becomes_a_folder_of_frames(tmp_path: Path) -> None:
    source = prepare(write_clip(tmp_path / "clip.mp4", pan(PAN)), tmp_path / "out", None)
    assert source.folder == tmp_path / "out" / "frames"
    assert names(source) == [f"clip/{frame.name}" for frame in source.clips[0].frames]
    assert 4 <= len(names(source)) <= 9
    assert source.notes == (source.clips[0].line,)
    assert clip_folders(source.folder, names(source)) == {"clip"}


def test_videos_among_images_are_used_together_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    save(folder / "a.jpg", picture())
    save(folder / "sub" / "b.png", picture(1))
    (folder / "bad.jpg").write_text("no image")
    write_clip(folder / "one.mp4", pan(PAN))
    write_clip(folder / "sub" / "two.mov", pan(PAN))
    source = prepare(folder, tmp_path / "out", None)
    assert {"a.jpg", "sub/b.png", "bad.jpg"} < set(names(source))
    assert clip_folders(source.folder, names(source)) == {"one", "sub/two"}
    assert source.notes[-1] == "3 images beside 2 videos: they are used together"
    assert Image.open(source.folder / "a.jpg").size == (64, 48)
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "bad.jpg", "one.mp4", "sub"]  # nothing written


def test_the_clip_of_a_live_photo_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    save(folder / "IMG_1.jpg", picture())
    write_clip(folder / "IMG_1.MOV", pan(PAN))
    source = prepare(folder, tmp_path / "out", None)
    assert source.folder == folder
    assert source.notes == ()  # it is said when the images of the folder are found
    write_clip(folder / "tour.mp4", pan(PAN))
    source = prepare(folder, tmp_path / "out", None)
    assert [clip.video for clip in source.clips] == ["tour.mp4"]
    assert "clips of live photos (IMG_1.MOV) are left out: their images are used" in source.notes


def test_a_long_video_with_a_picture_of_its_name_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    save(folder / "walk.jpg", picture())
    write_clip(folder / "walk.mp4", pan(PAN), rate=3)  # 6.7 s
    source = prepare(folder, tmp_path / "out", None)
    assert [clip.video for clip in source.clips] == ["walk.mp4"]
    assert "walk.jpg" in names(source)


def test_two_videos_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.mov"):
        write_clip(tmp_path / "images" / name, pan(PAN))
    source = prepare(tmp_path / "images", tmp_path / "out", None)
    assert clip_folders(source.folder, names(source)) == {"clip.mp4", "clip.mov"}


def test_what_is_no_longer_there_leaves_the_frames(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    save(folder / "a.jpg", picture())
    write_clip(folder / "one.mp4", pan(PAN))
    write_clip(folder / "two.mp4", pan(PAN))
    prepare(folder, tmp_path / "out", None)
    (folder / "a.jpg").unlink()
    (folder / "two.mp4").unlink()
    source = prepare(folder, tmp_path / "out", None)
    assert {name.partition("/")[0] for name in names(source)} == {"one"}


def test_a_bad_video_among_others_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_clip(folder / "good.mp4", pan(PAN))
    (folder / "bad.mp4").write_text("no video")
    source = prepare(folder, tmp_path / "out", None)
    assert [clip.video for clip in source.clips] == ["good.mp4"]
    assert source.notes[-1].endswith("bad.mp4: not a video of a known kind; convert it to MP4: left out")


def test_results_in_the_folder_are_not_searched(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_clip(folder / "clip.mp4", pan(PAN))
    first = prepare(folder, folder / "out", None)
    write_clip(folder / "out" / "other.mp4", pan(PAN))
    assert prepare(folder, folder / "out", None) == first


@pytest.mark.parametrize(("name", "message"), [
    ("notes.txt", "is a file; give the folder that it is in, or a video"),
    ("bad.mp4", "not a video of a known kind"),
    ("absent", "no such folder; give the folder of your images, or a video"),
])  # fmt: skip
def test_what_is_no_source(name: str, message: str, tmp_path: Path) -> None:
    for other in ("notes.txt", "bad.mp4"):
        (tmp_path / other).write_text("text")
    with pytest.raises(BadFile, match=message):
        prepare(tmp_path / name, tmp_path / "out", None)


def test_frames_without_a_video_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.jpg", picture())
    with pytest.raises(BadOption, match=r"--frames 200: there is no video in .*images; leave the option out"):
        prepare(tmp_path / "images", tmp_path / "out", "200")


def test_links_out_of_the_results_are_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "frames").mkdir(parents=True)
    (tmp_path / "out" / "frames" / "clip").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadFile, match="nothing is written through it"):
        prepare(write_clip(tmp_path / "clip.mp4", pan(PAN)), tmp_path / "out", None)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_links_within_the_frames_are_not_written_through(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    save(folder / "sub" / "a.jpg", picture())
    write_clip(folder / "clip.mp4", pan(PAN))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "frames").mkdir(parents=True)
    (tmp_path / "out" / "frames" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadFile, match="nothing is written through it"):
        prepare(folder, tmp_path / "out", None)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_is_video(tmp_path: Path) -> None:
    assert is_video(write_clip(tmp_path / "clip.MP4", pan([0, 6])))
    assert not is_video(tmp_path / "absent.mp4")
