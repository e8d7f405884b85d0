from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.images.video.containers import container_of, duration_s, opened_clip
from tests.support.clips import H, W, pan, rotate_clip, write_clip


def test_frames_come_in_order_with_their_own_times(tmp_path: Path) -> None:
    times = [0, 33, 66, 400, 433, 1000, 1033, 1066]
    pictures = pan(range(0, 80, 10))
    path = write_clip(tmp_path / "clip.mp4", pictures, times_ms=times)
    with opened_clip(path) as clip:
        frames = list(clip.frames())
        assert [frame.index for frame in frames] == list(range(8))
        assert [frame.time_s for frame in frames] == pytest.approx([t / 1000 for t in times], abs=0.002)
        for frame, picture in zip(frames, pictures, strict=True):
            assert np.abs(frame.rgb().astype(int) - picture).mean() < 4
            assert frame.luma(160).shape == (96, 160)


def test_a_phone_held_upright_is_shown_upright(tmp_path: Path) -> None:
    pictures = pan([0, 10])
    with opened_clip(rotate_clip(write_clip(tmp_path / "clip.mp4", pictures))) as clip:
        frame = next(clip.frames())
        assert frame.size == (H, W)
        assert np.abs(frame.rgb().astype(int) - np.rot90(pictures[0], -1)).mean() < 4
        assert frame.luma(160).shape == (160, 96)


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    with opened_clip(write_clip(tmp_path / "clip.mp4", pan([0, 10]), aspect=Fraction(4, 3))) as clip:
        frame = next(clip.frames())
        assert frame.size == (round(W * 4 / 3), H)
        assert frame.rgb().shape == (H, round(W * 4 / 3), 3)


def test_ten_bits_of_hdr10_become_eight_with_white_near_the_top(tmp_path: Path) -> None:
    white = 0.5807  # PQ's value of 203 nits, ITU-R BT.2408
    picture = np.full((H, W, 3), round(white * 65535), np.uint16)
    with opened_clip(write_clip(tmp_path / "clip.mp4", [picture] * 2, hdr=True)) as clip:
        shown = next(clip.frames()).rgb()
    assert shown.dtype == np.uint8
    assert 180 < shown.mean() < 205  # 148 where the values are only cut to 8 bits


def test_frames_carry_on_after_one_that_was_seen(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", pan(range(0, 300, 5)))
    with opened_clip(path) as clip:
        every = [(frame.index, frame.pts) for frame in clip.frames()]
    index, pts = every[31]
    assert pts is not None
    with opened_clip(path) as clip:
        assert [(frame.index, frame.pts) for frame in clip.frames((index, pts))] == every[31:]


@pytest.mark.parametrize("kind", ["mkv", "avi", "mov", "ts"])
def test_containers_of_every_kind(kind: str, tmp_path: Path) -> None:
    with opened_clip(write_clip(tmp_path / f"clip.{kind}", pan(range(0, 60, 10)))) as clip:
        frames = list(clip.frames())
    assert len(frames) == 6
    assert frames[0].time_s == pytest.approx(0, abs=0.07)  # MPEG-TS begins at 1.4 s
    assert frames[5].time_s - frames[0].time_s == pytest.approx(5 / 30, abs=0.05)


def test_a_damaged_tail_costs_the_tail_only(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", pan(range(0, 600, 5)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with opened_clip(path) as clip:
        assert 30 < len(list(clip.frames())) < 90
    noise = np.random.default_rng(0).integers(0, 256, len(data) // 4, np.uint8).tobytes()
    path.write_bytes(data[: len(data) // 2] + noise + data[3 * len(data) // 4 :])
    with opened_clip(path) as clip:
        assert 30 < len(list(clip.frames())) < 120


def test_a_clip_without_its_index_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", pan(range(0, 100, 10)))
    path.write_bytes(path.read_bytes()[:-600])  # the index (moov) is at the end
    with (
        pytest.raises(BadFile, match=r"clip\.mp4: .*copy or convert it again"),
        opened_clip(path),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "ffconcat version 1.0\nfile /etc/passwd\n", "", "x"]
)
def test_a_playlist_is_no_video(text: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text(text)
    assert container_of(path) is None
    with pytest.raises(BadFile, match="not a video of a known kind"), opened_clip(path):
        pass


def test_duration(tmp_path: Path) -> None:
    assert duration_s(write_clip(tmp_path / "clip.mp4", pan(range(0, 600, 10)))) == pytest.approx(2.0, abs=0.1)
    assert duration_s(tmp_path / "absent.mp4") == 0
