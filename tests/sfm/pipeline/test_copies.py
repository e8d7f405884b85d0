"""Files of the same bytes as an image: not matched, and in the finished model with its pose."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.export.registry import export
from sfm.export.source import ExportSource
from sfm.options import RefinementOptions
from sfm.pipeline.refine_model import refine_folder
from sfm.pipeline.run import reconstruct
from sfm.results.console import summary_text
from sfm.storage.database import FeatureDatabase
from tests.support.arc_scene import NUM, OPTIONS
from tests.support.carrying_on import assert_database_is_of, carry_on


def by_name(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Image]:
    return {model.images[i].name: model.images[i] for i in model.reg_image_ids()}


@pytest.mark.parametrize("no_refine", [False, True])
def test_copies_have_the_pose_and_the_observations_of_their_image(images, tmp_path, no_refine):
    for name in ("2 again.png", "sub/2.png"):
        (images / name).parent.mkdir(exist_ok=True)
        shutil.copy(images / "2.png", images / name)
    options = replace(OPTIONS, refinement=RefinementOptions(no_refine=no_refine))
    summary = reconstruct(images, tmp_path / "out", options)
    assert (summary.images, summary.registered, summary.unregistered) == (NUM + 2, NUM + 2, ())
    model = pycolmap.Reconstruction(summary.model_dir)
    found = by_name(model)
    for name in ("2 again.png", "sub/2.png"):
        np.testing.assert_array_equal(found[name].cam_from_world().matrix(), found["2.png"].cam_from_world().matrix())
        assert [p.point3D_id for p in found[name].points2D] == [p.point3D_id for p in found["2.png"].points2D]
        assert found[name].num_points3D == found["2.png"].num_points3D > 0
    with FeatureDatabase.open(tmp_path / "out" / "features.h5", "r") as db:
        assert len(db.read_images()) == NUM
        assert len(db.read_pairs()) == NUM * (NUM - 1) // 2
    assert "2 files of the same bytes as an image" in summary_text(summary, images, tmp_path / "out")
    assert_database_is_of(tmp_path / "out", model)


def test_copies_are_found_again_and_taken_back(copied):
    images, out = copied
    shutil.copy(images / "1.png", images / "copy.png")
    redone = []
    summary = reconstruct(images, out, OPTIONS, on_stage=redone.append)
    assert summary.registered == NUM + 1
    matching = next(stage for stage in redone if stage.stage == "matching")
    assert matching.counts["reused"] == matching.counts["pairs"]
    (images / "copy.png").unlink()
    summary = reconstruct(images, out, OPTIONS)
    assert (summary.images, summary.registered) == (NUM, NUM)
    assert set(by_name(pycolmap.Reconstruction(summary.model_dir))) == {f"{i}.png" for i in range(NUM)}


def test_a_copy_of_what_is_not_in_the_model_is_not_either(images, tmp_path):
    size = Image.open(images / "0.png").size
    Image.new("L", size, 128).save(images / "blank.png")
    shutil.copy(images / "blank.png", images / "white.png")
    summary = reconstruct(images, tmp_path / "out", OPTIONS, stop_after="mapping")
    assert dict(summary.unregistered)["white.png"] == "a copy of blank.png"


def test_everything_reads_a_model_with_copies(copied, tmp_path):
    images, out = copied
    shutil.copy(images / "3.png", images / "copy.png")
    reconstruct(images, out, OPTIONS)
    carry_on(out, images)
    refine_folder(out, images, tmp_path / "refined")
    assert "copy.png" in by_name(pycolmap.Reconstruction(tmp_path / "refined" / "sparse" / "0"))
    export(ExportSource.of_run(out), tmp_path / "nerf", "nerfstudio")
    frames = json.loads((tmp_path / "nerf" / "transforms.json").read_text())["frames"]
    assert len(frames) == NUM + 1
    assert '"copy.png"' in (out / "report.html").read_text()
