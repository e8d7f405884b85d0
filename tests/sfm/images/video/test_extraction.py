from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.errors import BadFile
from sfm.images.video import extraction
from sfm.images.video.extraction import JOURNAL, extract_frames
from sfm.images.video.keyframes import FrameRule
from sfm.images.video.records import RECORD, ClipFrames, read_record
from tests.support.clips import H, W, pan, write_clip

STILL = [*range(0, 200, 4), *[200] * 40, *range(200, 400, 4)]  # moves, stands still, moves


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140 frames: a pan of 4 px a frame with a stop, every fifth frame blurred."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    tags = {"creation_time": "2026-05-01T10:00:00.000000Z"}
    return write_clip(path, pan(STILL, blurred_at=range(2, 140, 5)), tags=tags)


def extract(clip: Path, folder: Path, frames: str | None = None) -> ClipFrames:
    return extract_frames(clip, folder, FrameRule.of(frames), name="clip.mp4")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_near_equal_and_blurred_frames_are_left_out_and_counted(clip: Path, tmp_path: Path) -> None:
    found = extract(clip, tmp_path / "clip")
    kept = [frame.index for frame in found.frames]
    steps = np.diff([STILL[i] for i in kept]) / W
    assert not any(i % 5 == 2 for i in kept)
    assert steps.min() > 0.04
    assert steps.max() < 0.12
    assert 14 <= len(kept) <= 25  # 400 px at 16 to 29 px a step
    assert found.decoded == 140 == len(kept) + found.little + found.blurred
    assert found.blurred > 0
    assert found.line == (
        f"clip.mp4: 140 frames, {len(kept)} kept: {found.little} moved too little, {found.blurred} blurred"
    )


def test_frames_are_images_that_sort_with_their_times(clip: Path, tmp_path: Path) -> None:
    found = extract(clip, tmp_path / "clip")
    names = [frame.name for frame in found.frames]
    assert names == sorted(names) == sorted(path.name for path in (tmp_path / "clip").glob("*.jpg"))
    assert names == [f"frame_{frame.index:06d}.jpg" for frame in found.frames]
    assert [frame.time_s for frame in found.frames] == pytest.approx([f.index / 30 for f in found.frames], abs=0.002)
    last = found.frames[-1]
    with Image.open(tmp_path / "clip" / last.name) as image:
        assert image.size == (W, H)
        assert image.getexif().get_ifd(0x8769)[0x9003] == f"2026:05:01 10:00:{int(last.time_s):02d}"
        assert 0x0110 not in image.getexif()  # no device without a focal length
    assert read_record(tmp_path / "clip") == found


def test_a_focal_length_in_the_container_is_in_the_frames(tmp_path: Path) -> None:
    tags = {
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
        "com.apple.quicktime.camera.focal_length.35mm_equivalent": "26",
    }
    path = write_clip(tmp_path / "clip.mov", pan(range(0, 60, 4)), tags=tags)
    found = extract(path, tmp_path / "clip")
    with Image.open(tmp_path / "clip" / found.frames[0].name) as image:
        assert image.getexif()[0x0110] == "iPhone 15"
        assert image.getexif().get_ifd(0x8769)[0xA405] == 26


def test_a_clip_that_is_done_is_reused_and_what_was_taken_out_stays_out(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = extract(clip, tmp_path / "clip")
    before = files(tmp_path / "clip")
    monkeypatch.setattr(extraction, "opened_clip", None)  # decoding would fail
    assert extract(clip, tmp_path / "clip") == found
    assert files(tmp_path / "clip") == before
    (tmp_path / "clip" / found.frames[3].name).unlink()
    assert extract(clip, tmp_path / "clip").frames == (*found.frames[:3], *found.frames[4:])


def test_a_video_that_changed_and_another_rule_are_done_anew(clip: Path, tmp_path: Path) -> None:
    first = extract(clip, tmp_path / "clip")
    second = extract(clip, tmp_path / "clip", "6")
    assert len(second.frames) == 6
    assert {path.name for path in (tmp_path / "clip").glob("*.jpg")} == {frame.name for frame in second.frames}
    assert extract(clip, tmp_path / "clip") == first


@pytest.mark.parametrize("kept_before", [1, 2, 5, 11])
def test_a_killed_call_carries_on_with_the_same_result(
    kept_before: int, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract(clip, tmp_path / "whole")
    written: list[Path] = []
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).suffix == ".jpg":
            if len(written) == kept_before:
                raise KeyboardInterrupt
            written.append(Path(target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(clip, tmp_path / "clip")
    with (tmp_path / "clip" / JOURNAL).open("a") as journal:
        journal.write('{"index": 7, "torn')
    times = {path: path.stat().st_mtime_ns for path in written}
    again = extract(clip, tmp_path / "clip")
    assert again.frames == whole.frames
    assert again.line == whole.line
    assert {path: path.stat().st_mtime_ns for path in written} == times
    assert files(tmp_path / "clip").keys() == files(tmp_path / "whole").keys()
    pictures = [name for name in files(tmp_path / "whole") if name.endswith(".jpg")]
    assert all(files(tmp_path / "clip")[name] == files(tmp_path / "whole")[name] for name in pictures)


def test_a_killed_call_begins_anew_where_the_container_does_not_find_its_way_back(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract(clip, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_record", lambda folder, found: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(clip, tmp_path / "clip")
    journal = tmp_path / "clip" / JOURNAL
    *lines, last = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:4], json.dumps({**json.loads(last), "pts": 10**9}), ""]))
    assert extract(clip, tmp_path / "clip").frames == whole.frames


def test_so_many_frames_as_asked_for(clip: Path, tmp_path: Path) -> None:
    found = extract(clip, tmp_path / "clip", "30")
    assert len(found.frames) == 30
    gaps = np.diff([STILL[frame.index] for frame in found.frames])
    assert gaps.max() <= 28  # 400 px in 30 steps are 13 each
    assert sum(frame.index % 5 == 2 for frame in found.frames) <= 2  # blurred
    assert found.thinned > 0
    assert "more than --frames asks for" in found.line


def test_so_many_frames_a_second(clip: Path, tmp_path: Path) -> None:
    found = extract(clip, tmp_path / "clip", "4fps")
    assert 13 <= len(found.frames) <= 16  # 4.7 s, of which 1.3 s stand still
    assert not any(frame.index % 5 == 2 for frame in found.frames)


def test_a_video_without_a_frame_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", pan([0, 4]))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(BadFile, match=r"clip\.mkv: .*copy or convert it again"):
        extract(path, tmp_path / "clip")


def test_a_damaged_record_counts_as_none(clip: Path, tmp_path: Path) -> None:
    first = extract(clip, tmp_path / "clip")
    for text in ("", "[]", json.dumps({"video": 1}), '{"frames": [{}]}'):
        (tmp_path / "clip" / RECORD).write_text(text)
        assert read_record(tmp_path / "clip") is None
    assert extract(clip, tmp_path / "clip") == first
