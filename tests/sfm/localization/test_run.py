"""The verb localize on a roof that is photographed exactly: poses, what stays as it is, and what is refused."""

import json
import shutil

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.cli.main import main
from sfm.geometry.poses import pose_error_deg
from sfm.system.hashing import named_files_digest
from tests.support.plane_scene import HEIGHT, NAMES, PARAMS, WIDTH, make_model, poses, project, rendered, surface_points

NEW = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders: images, a model of all but one, and that one. Read only."""
    folder = tmp_path_factory.mktemp("localization")
    xyz = surface_points(300)
    known = [i for i in range(len(NAMES)) if i != NEW]
    for name in ("images", "new", "model"):
        (folder / name).mkdir()
    for i in known:
        Image.fromarray(rendered(i)).save(folder / "images" / NAMES[i])
    Image.fromarray(rendered(NEW)).save(folder / "new" / NAMES[NEW])
    make_model(xyz, [project(i, xyz) for i in range(len(NAMES))], images=known).write_binary(folder / "model")
    return folder


def localize(place, out, *more, images="new", model="model"):
    words = [str(place / model), str(place / images), str(out), "--model-images", str(place / "images")]
    return main(["localize", *words, "--device", "cpu", *more])


def digest(folder):
    return named_files_digest(sorted(p for p in folder.rglob("*") if p.is_file()))


@pytest.mark.parametrize("matcher", ["loftr", "sift"])
def test_a_new_image_finds_its_place_and_the_model_stays(place, tmp_path, capsys, matcher):
    before = digest(place / "model")
    assert localize(place, tmp_path / "out", "--matcher", matcher, "--weights", "compact") == 0
    assert digest(place / "model") == before
    record = json.loads((tmp_path / "out" / "localized.json").read_text())
    (one,) = record["images"]
    assert (one["image"], one["localized"], one["camera"]["from"]) == (NAMES[NEW], True, "camera 1 of the model")
    assert one["camera"]["params"] == pytest.approx(PARAMS)
    assert one["inliers"] > 60
    assert one["median_error_px"] < 0.3

    old, both = pycolmap.Reconstruction(place / "model"), pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    for image_id, image in old.images.items():
        np.testing.assert_array_equal(both.images[image_id].cam_from_world().matrix(), image.cam_from_world().matrix())
    for point_id, point in old.points3D.items():
        np.testing.assert_array_equal(both.points3D[point_id].xyz, point.xyz)
    (new,) = (image for image in both.images.values() if image.name == NAMES[NEW])
    assert new.num_points3D == one["inliers"]
    found, wanted = new.cam_from_world().matrix(), poses()[NEW]
    rotation_deg, _ = pose_error_deg(found, wanted)
    assert rotation_deg < 0.05
    centre = -wanted[:, :3].T @ wanted[:, 3]
    assert np.linalg.norm(new.projection_center() - centre) < 0.01  # of 6, the distance to the roof
    assert np.linalg.norm(new.projection_center() - centre) < 5 * one["centre_sigma"]
    assert "1 of 1 image localized" in capsys.readouterr().out


def test_what_shows_something_else_is_not_localized(place, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    Image.fromarray(rendered(NEW, seed=9)).save(tmp_path / "new" / "other.png")
    (tmp_path / "new" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert localize(place, tmp_path / "out", "--matcher", "sift", images=tmp_path / "new") == 3
    said = capsys.readouterr().out
    assert "0 of 2 images localized" in said
    assert "not localized: other.png: no pose explains" in said
    assert "not localized: broken.jpg: " in said
    assert pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0").num_reg_images() == len(NAMES) - 1


def test_a_frame_in_metres_is_carried_over(place, tmp_path):
    shutil.copytree(place / "model", tmp_path / "model")
    (tmp_path / "model" / "frame.json").write_text("{}")
    assert localize(place, tmp_path / "out", "--matcher", "sift", model=tmp_path / "model") == 0
    assert (tmp_path / "out" / "sparse" / "0" / "frame.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("words", "out", "message"),
    [
        ({"model": "nosuch"}, "out", "nosuch: no such folder"),
        ({"images": "nosuch"}, "out", "nosuch: no such folder"),
        ({"model": "new"}, "out", "new: holds no COLMAP model"),
    ],
)
def test_what_is_refused(place, tmp_path, capsys, words, out, message):
    assert localize(place, tmp_path / out, "--matcher", "sift", **words) == 2
    assert message in capsys.readouterr().err


def test_another_model_is_not_overwritten(place, tmp_path, capsys):
    (tmp_path / "sparse").mkdir()
    assert localize(place, tmp_path, "--matcher", "sift") == 2
    assert "holds another model" in capsys.readouterr().err
    assert list((tmp_path / "sparse").iterdir()) == []


def test_the_models_images_must_be_there(place, tmp_path, capsys):
    words = [str(place / "model"), str(place / "new"), str(tmp_path / "out"), "--model-images", str(tmp_path)]
    assert main(["localize", *words, "--matcher", "sift"]) == 2
    assert "give their folder by --model-images" in capsys.readouterr().err


def test_a_new_image_of_the_name_of_an_old_one(place, tmp_path):
    (tmp_path / "new").mkdir()
    Image.fromarray(rendered(NEW)).save(tmp_path / "new" / NAMES[0])
    assert localize(place, tmp_path / "out", "--matcher", "sift", images=tmp_path / "new") == 0
    both = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert f"localized/{NAMES[0]}" in {image.name for image in both.images.values()}


def test_an_unknown_camera_is_calibrated(place, tmp_path):
    """Of another size, with no focal length written into it."""
    (tmp_path / "new").mkdir()
    Image.fromarray(rendered(NEW, factor=2)).save(tmp_path / "new" / "large.png")
    assert localize(place, tmp_path / "out", "--matcher", "sift", images=tmp_path / "new") == 0
    (one,) = json.loads((tmp_path / "out" / "localized.json").read_text())["images"]
    assert (one["camera"]["width"], one["camera"]["height"]) == (2 * WIDTH, 2 * HEIGHT)
    assert one["camera"]["params"][0] == pytest.approx(2 * PARAMS[0], rel=0.03)
    assert one["camera"]["from"] == "a guess, refined"


def test_a_models_images_must_be_named(place, tmp_path, capsys):
    assert main(["localize", str(place / "model"), str(place / "new"), str(tmp_path / "out")]) == 2
    assert "give --model-images FOLDER" in capsys.readouterr().err
