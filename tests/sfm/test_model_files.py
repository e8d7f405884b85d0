"""model_files: numbered folders that replace older ones whole, PLY, and colours from a reader."""

import numpy as np
import pycolmap
from mapping_scene import HEIGHT, WIDTH

from sfm import model_files


def test_models_are_numbered_and_replace_older_ones_whole(mapped, tmp_path):
    model, target = mapped[1].models[0], tmp_path / "sparse"
    (target / "5").mkdir(parents=True)
    folders = model_files.write_models([model, model], target)
    assert folders == [target / "0", target / "1"]
    assert sorted(p.name for p in target.iterdir()) == ["0", "1"]
    assert pycolmap.Reconstruction(target / "1").num_points3D() == model.num_points3D()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sparse"]


def test_ply_is_written(mapped, tmp_path):
    model_files.write_ply(mapped[1].models[0], tmp_path / "points.ply")
    assert (tmp_path / "points.ply").read_bytes()[:3] == b"ply"
    assert [p.name for p in tmp_path.iterdir()] == ["points.ply"]


def test_points_take_the_mean_colour_of_their_observations(mapped):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    model_files.colour_points(model, lambda _: np.full((HEIGHT, WIDTH, 3), [10, 200, 30], np.uint8))
    assert {tuple(int(c) for c in p.color) for p in model.points3D.values()} == {(10, 200, 30)}
