"""Models on disk: numbered folders that replace older ones whole, PLY, and colours from a reader."""

import os

import numpy as np
import pycolmap
import pytest

from sfm.colmap import model_writer
from tests.support.mapping_scene import HEIGHT, WIDTH


def test_models_are_numbered_and_replace_older_ones_whole(mapped, tmp_path):
    model, target = mapped[1].models[0], tmp_path / "sparse"
    (target / "5").mkdir(parents=True)
    folders = model_writer.write_models([model, model], target)
    assert folders == [target / "0", target / "1"]
    assert sorted(p.name for p in target.iterdir()) == ["0", "1"]
    assert pycolmap.Reconstruction(target / "1").num_points3D() == model.num_points3D()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sparse"]


def test_ply_is_written(mapped, tmp_path):
    model_writer.write_ply(mapped[1].models[0], tmp_path / "points.ply")
    assert (tmp_path / "points.ply").read_bytes()[:3] == b"ply"
    assert [p.name for p in tmp_path.iterdir()] == ["points.ply"]


def test_points_take_the_mean_colour_of_their_observations(mapped):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    model_writer.colour_points(model, lambda _: np.full((HEIGHT, WIDTH, 3), [10, 200, 30], np.uint8))
    assert {tuple(int(c) for c in p.color) for p in model.points3D.values()} == {(10, 200, 30)}


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin"])
def test_short_files_of_a_full_disk_are_noticed(mapped, tmp_path, name):
    """COLMAP writes what it can and says nothing; a byte that is missing is enough."""

    class FullDisk:
        def __init__(self, model):
            self._model = model

        def __getattr__(self, what):
            return getattr(self._model, what)

        def write_binary(self, folder):
            self._model.write_binary(folder)
            os.truncate(folder / name, (folder / name).stat().st_size - 1)

    model = mapped[1].models[0]
    model_writer.write_models([model], tmp_path / "sparse")
    with pytest.raises(OSError, match="No space left on device: only"):
        model_writer.write_models([FullDisk(model)], tmp_path / "sparse")
    assert pycolmap.Reconstruction(tmp_path / "sparse" / "0").num_points3D() == model.num_points3D()
    assert [path.name for path in tmp_path.iterdir()] == ["sparse"]


def test_leftovers_of_a_killed_run_go_and_nothing_else_does(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    gone = (".mapping-abc/relaxed", ".models-x/old/0", ".refinement/0123/0/.round-y/state")
    kept = ("sparse/0", ".refinement/0123/0/state", "models-of-mine")
    for folder in (*gone, *kept):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    for name in ("run.json.part", "report.html.part", "run.json", "my.part"):
        (tmp_path / name).touch()
    (tmp_path / ".models-link").symlink_to(tmp_path / "elsewhere")
    model_writer.remove_leftovers(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"elsewhere/kept", "run.json", "my.part", *(f"{folder}/file" for folder in kept)}
    assert not (tmp_path / ".models-link").is_symlink()


def test_points_that_only_left_out_images_observe_keep_their_colour(mapped):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    for point in model.points3D.values():
        point.color = [1, 2, 3]
    names = sorted(image.name for image in model.images.values())
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    model_writer.colour_points(model, lambda name: white, without=names[1:])
    observed = {p.point3D_id for p in model.find_image_with_name(names[0]).get_observation_points2D()}
    assert 0 < len(observed) < model.num_points3D()
    for point_id, point in model.points3D.items():
        assert point.color.tolist() == ([255] * 3 if point_id in observed else [1, 2, 3])
