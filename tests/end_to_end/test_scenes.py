"""Whole runs with the embedded weights on the CPU: the demo, and real photos where they are at hand."""

from __future__ import annotations

import json

import pycolmap
import pytest

from sfm.evaluation import evaluate_folder

CPU = ("--weights", "compact", "--device", "cpu", "--offline")


def test_demo(loftr_sfm, tmp_path):
    out = tmp_path / "demo"
    done = loftr_sfm("demo", out, *CPU)
    assert done.returncode == 0, done.stderr
    found = evaluate_folder(out / "sparse" / "0", out / "gt")
    assert (found.registered, found.total) == (12, 12)
    assert 0.93 < found.auc[5.0] < 0.9999  # exact to the last digit would be the truth itself
    assert 0.6 < found.auc[1.0] < 0.999
    assert 0.1 < found.statistics.reprojection_error < 1.5
    assert found.statistics.track_length > 3
    assert found.statistics.points3D > 2000
    run = json.loads((out / "run.json").read_text())
    assert (run["registered"], run["points3D"]) == (12, found.statistics.points3D)
    for said in ("registered images       12 of 12", f"pose AUC @ 5°           {found.auc[5.0]:.3f}", "look at it:"):
        assert said in done.stdout
    assert pycolmap.Reconstruction(out / "sparse" / "0").num_points3D() == found.statistics.points3D
    assert (out / "points.ply").stat().st_size > 10 * found.statistics.points3D


@pytest.mark.parametrize(
    ("scene", "photos", "auc5"), [("strecha_fountain_p11", 11, 0.90), ("strecha_herzjesu_p8", 8, 0.86)]
)
def test_real_photos(loftr_sfm, shared_dir, tmp_path, scene, photos, auc5):
    folder = shared_dir / "datasets" / scene
    if not folder.is_dir():
        pytest.skip(f"no {scene} in {folder.parent}")
    done = loftr_sfm(folder / "images", tmp_path / "out", *CPU)
    assert done.returncode == 0, done.stderr
    found = evaluate_folder(tmp_path / "out" / "sparse" / "0", folder / "gt")
    assert found.registered == found.total == photos
    assert auc5 <= found.auc[5.0] < 0.9999
    assert found.statistics.track_length > 3
