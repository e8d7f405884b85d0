from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.cli import demo
from sfm.datasets.colmap_model import read_model
from sfm.errors import BadFile


@pytest.fixture
def out(tmp_path):
    """A demo's folder: the ground truth in gt/ and in sparse/0 a model whose cameras are some degrees off."""
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=6, num_points3D=50)
    ground_truth = pycolmap.synthesize_dataset(options)
    (tmp_path / "gt").mkdir()
    ground_truth.write_text(tmp_path / "gt")
    rng = np.random.default_rng(0)
    for frame in ground_truth.frames.values():
        rotation = pycolmap.Rigid3d(pycolmap.Rotation3d(np.radians(2) * rng.standard_normal(3)), np.zeros(3))
        frame.rig_from_world = rotation * frame.rig_from_world
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    ground_truth.write_binary(tmp_path / "sparse" / "0")
    return tmp_path


def test_report_measures_the_reconstruction_not_the_ground_truth(out):
    report = demo.report(out)
    assert "6 of 6" in report
    line = next(line for line in report.splitlines() if line.startswith("median pose error"))
    assert 1 < float(line.split()[-1].rstrip("°")) < 8


def test_images_and_ground_truth_are_prepared_and_what_is_lost_comes_back(tmp_path):
    out = tmp_path / "new" / "demo"
    assert demo.prepare(out) == out / "images"
    names = sorted(photo.name for photo in (out / "images").iterdir())
    assert len(names) == 12
    ground_truth = read_model(out / "gt")
    assert sorted(image.name for image in ground_truth.images.values()) == names
    (out / "images" / names[3]).write_bytes(b"")
    demo.prepare(out)
    assert (out / "images" / names[3]).stat().st_size > 50_000


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(BadFile, match="is a file"):
        demo.prepare(tmp_path / "demo")
