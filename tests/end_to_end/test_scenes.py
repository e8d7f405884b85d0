"""Whole runs with the embedded weights on the CPU: the demo, and real images where they are at hand."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest

from sfm.evaluation.model import camera_poses, evaluate_folder, read_ground_truth, read_model

pytestmark = pytest.mark.slow

CPU = ("--weights", "compact", "--device", "cpu", "--offline")


def test_demo(loftr_sfm, tmp_path):
    out = tmp_path / "demo"
    done = loftr_sfm("demo", out, *CPU)
    assert done.returncode == 0, done.stderr
    found = evaluate_folder(out / "sparse" / "0", out / "gt")
    assert (found.registered, found.total) == (12, 12)
    assert 0.98 < found.auc[5.0] < 0.9999  # exact to the last digit would be the ground truth itself
    assert 0.92 < found.auc[1.0] < 0.999
    assert 0.05 < found.statistics.reprojection_error < 0.5
    assert found.statistics.track_length > 3
    assert found.statistics.points3D > 2000
    run = json.loads((out / "run.json").read_text())
    assert (run["registered"], run["points3D"]) == (12, found.statistics.points3D)
    for said in ("registered images       12 of 12", f"pose AUC @ 5°           {found.auc[5.0]:.3f}", "look at it:"):
        assert said in done.stdout
    assert pycolmap.Reconstruction(out / "sparse" / "0").num_points3D() == found.statistics.points3D
    assert (out / "points.ply").stat().st_size > 10 * found.statistics.points3D


@pytest.mark.parametrize(
    ("scene", "images", "auc"),
    [("strecha_fountain_p11", 11, (0.85, 0.95, 0.97)), ("strecha_herzjesu_p8", 8, (0.88, 0.96, 0.97))],
)
def test_real_images(loftr_sfm, shared_dir, tmp_path, scene, images, auc):
    folder = shared_dir / "datasets" / scene
    if not folder.is_dir():
        pytest.skip(f"no {scene} in {folder.parent}")
    done = loftr_sfm(folder / "images", tmp_path / "out", *CPU)
    assert done.returncode == 0, done.stderr
    found = evaluate_folder(tmp_path / "out" / "sparse" / "0", folder / "gt")
    assert found.registered == found.total == images
    for threshold, least in zip((1.0, 3.0, 5.0), auc, strict=True):
        assert least <= found.auc[threshold] < 0.9999
    assert found.statistics.track_length > 4.5


def test_known_poses_are_kept_and_the_global_mapper_finds_its_own(loftr_sfm, tmp_path):
    out = tmp_path / "demo"
    done = loftr_sfm("demo", out, *CPU, "--mapper", "global", "--no-refine")
    assert done.returncode == 0, done.stderr
    ground_truth = read_ground_truth(out / "gt")
    found = evaluate_folder(out / "sparse" / "0", out / "gt")
    assert found.registered == 12
    assert 0.9 < found.auc[5.0] < 0.9999
    done = loftr_sfm(out / "images", out, *CPU, "--known-poses", out / "gt")
    assert done.returncode == 0, done.stderr
    model = read_model(out)
    poses = camera_poses(model)
    assert poses.keys() == ground_truth.keys()
    for name, pose in poses.items():
        np.testing.assert_allclose(pose, ground_truth[name], atol=1e-9)
    assert model.num_points3D() > 3000
    assert model.compute_mean_reprojection_error() < 0.5
