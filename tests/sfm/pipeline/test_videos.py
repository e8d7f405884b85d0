"""A run whose images are frames of a video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sfm.images.video import extraction
from sfm.images.video.records import RECORD
from sfm.options import Options
from sfm.pipeline.run import open_run, reconstruct
from sfm.results.run_json import read_run_json
from tests.support.clips import pan, write_clip
from tests.support.pictures import picture, save

PAN = range(0, 300, 6)


def test_a_video_is_a_run_with_times_in_run_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, out = write_clip(tmp_path / "clip.mp4", pan(PAN)), tmp_path / "out"
    options = Options.of(device="cpu", pairs="sequential:3")
    summary = reconstruct(clip, out, options, stop_after="pairs")
    images, pairs = summary.stages
    num = int(images.counts["images"])
    assert 10 <= num <= 18
    assert images.notes == (f"clip.mp4: 50 frames, {num} kept: {50 - num} moved too little",)
    assert images.counts["cameras"] == 1
    assert int(pairs.counts["pairs"]) >= 3 * (num - 3)
    record = read_run_json(out)
    assert record["images_folder"] == str(out / "frames")
    assert f"{clip} {out}" in record["command"]
    times = record["videos"][0]["times_s"]
    assert len(times) == num
    assert all(time == pytest.approx(int(name[-10:-4]) / 30, abs=0.002) for name, time in times.items())
    assert (out / "descriptors.npz").is_file()
    monkeypatch.setattr(extraction, "opened_clip", None)  # a second decoding would fail
    again = reconstruct(clip, out, options, stop_after="pairs")
    assert [stage.reused for stage in again.stages] == [True, True]
    assert again.stages[0].notes == images.notes


def test_images_beside_a_video_have_cameras_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_clip(folder / "clip.mp4", pan(PAN))
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Acme", "Camera 1"
    save(folder / "photo.jpg", picture(3, (320, 192)), exif=exif)
    with open_run(folder, tmp_path / "out", device="cpu") as run:
        assert run.run_stage("images").counts["cameras"] == 2
        run.run_stage("pairs")
        named = {name for pair in run.db.read_pairs() for name in (pair.name0, pair.name1)}
        assert "photo.jpg" in named


def test_frames_option_is_no_reason_to_read_images_again(tmp_path: Path) -> None:
    """What it changes are the frames themselves."""
    clip, out = write_clip(tmp_path / "clip.mp4", pan(PAN)), tmp_path / "out"
    assert reconstruct(clip, out, Options.of(frames="8"), stop_after="images").stages[0].counts["images"] == 8
    assert reconstruct(clip, out, Options.of(frames="5"), stop_after="images").stages[0].counts["images"] == 5
    assert len(list((out / "frames" / "clip").glob("*.jpg"))) == 5
    assert json.loads((out / "frames" / "clip" / RECORD).read_text())["thinned"] > 0
    assert read_run_json(out)["videos"][0]["kept"] == 5
