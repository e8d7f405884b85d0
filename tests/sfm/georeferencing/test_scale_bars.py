"""Known distances: files of them, marked points, and what is refused."""

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm.errors import BadFile, BadOption, SfMError
from sfm.georeferencing.scale_bars import measure, read_scale_bars, scale_of

NAMES = ("a.jpg", "b.jpg", "c, d.jpg")
POINTS = {"left": np.array([-1.0, 0.2, 0.1]), "right": np.array([1.5, 0.1, -0.3]), "top": np.array([0.2, -1.2, 0.0])}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        (folder / name).touch()
    return folder


@pytest.fixture
def model():
    """Three cameras with distortion, 6 units from the points; a unit is 0.25 m."""
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="RADIAL", width=640, height=480, params=[600, 320, 240, -0.1, 0.02])
    model.add_camera_with_trivial_rig(camera)
    for i, name in enumerate(NAMES, start=1):
        rotation = Rotation.from_euler("y", 15.0 * i, degrees=True).as_matrix()
        pose = pycolmap.Rigid3d(np.column_stack([rotation, [0, 0, 6.0]]))
        model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=1, image_id=i), pose)
    return model


def marks(model, point, noise=0.0, names=NAMES[:2]):
    rng = np.random.default_rng(0)
    own = {image.name: image for image in model.images.values()}
    seen = {name: own[name].project_point(POINTS[point]) + rng.normal(0, noise, 2) for name in names}
    return [f"{point}, {name}, {x:.6f}, {y:.6f}" for name, (x, y) in seen.items()]


def write(tmp_path, *lines):
    (tmp_path / "bars.csv").write_text("\n".join(["# marks and distances", "", *lines]))
    return str(tmp_path / "bars.csv")


def distance(*ends):
    return float(np.linalg.norm(POINTS[ends[0]] - POINTS[ends[1]]))


def test_marked_points_are_triangulated(model, images, tmp_path):
    bars = (f"{a},{b},{0.25 * distance(a, b)}" for a, b in (("left", "right"), ("left", "top"), ("right", "top")))
    lines = [line for point in POINTS for line in marks(model, point)]
    measured, lost = measure(read_scale_bars(write(tmp_path, *lines, *bars), images), model)
    assert (len(measured), lost) == (3, ())
    assert scale_of(measured) == pytest.approx(0.25, rel=1e-5)


def test_a_wrong_distance_of_several_is_outvoted(model, images, tmp_path):
    bars = [("left", "right", 0.25), ("left", "top", 0.25), ("right", "top", 0.5)]
    lines = [line for point in POINTS for line in marks(model, point, noise=0.3)]
    lines += [f"{a},{b},{unit * distance(a, b)}" for a, b, unit in bars]
    measured, _ = measure(read_scale_bars(write(tmp_path, *lines), images), model)
    assert scale_of(measured) == pytest.approx(0.25, rel=0.01)


def test_names_of_images_may_hold_commas_on_the_command_line_of_one_distance(images):
    bars = read_scale_bars("a.jpg,b.jpg,2.5", images)
    assert [(b.end0, b.end1, b.metres) for b in bars.bars] == [("a.jpg", "b.jpg", 2.5)]


def test_what_the_model_has_not_is_said(model, images, tmp_path):
    model.deregister_frame(3)
    lines = [*marks(model, "left"), *marks(model, "right", names=NAMES[1:2]), f"right,{NAMES[0]},5,5"]
    lines += ["left,a.jpg,2", "left,right,1"]
    lines[3] = "right,a.jpg,5.0,5.0"
    measured, lost = measure(read_scale_bars(write(tmp_path, *lines), images), model)
    assert [one.bar.end1 for one in measured] == ["a.jpg"]
    assert "the marks of right do not agree" in lost[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jpg,b.jpg", "give IMAGE,IMAGE,METRES"),
        ("nosuch.csv", "no such file"),
        ("a.jpg,b.jpg,0", "no distance in metres"),
        ("a.jpg,b.jpg,nan", "no distance in metres"),
        ("a.jpg,b.jpg,two", "no distance in metres"),
        ("a.jpg,a.jpg,2", "two different ends"),
        ("a.jpg,z.jpg,2", "z.jpg is neither an image"),
    ],
)
def test_bad_values(text, said, images):
    with pytest.raises(BadOption, match=said):
        read_scale_bars(text, images)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["left,a.jpg,1,2"], "no known distance"),
        (["left,a.jpg,1,2", "left,b.jpg,3"], "marked in one image only"),
        (["left,a.jpg,x,2", "left,right,3"], "line 3: 'x' is no such line"),
        (["one two three"], "is no such line"),
        (["left,a.jpg,1,2,3"], "is no such line"),
        (["left,a.jpg,1,inf"], "is no such line"),
    ],
)
def test_bad_files(lines, said, images, tmp_path):
    with pytest.raises((BadFile, BadOption), match=said) as error:
        read_scale_bars(write(tmp_path, *lines), images)
    assert isinstance(error.value, SfMError)
    assert "\n" not in str(error.value)
