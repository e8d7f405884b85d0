"""Models brought into metres: right by the true positions, unchanged in shape, undone and repeated exactly."""

import json

import numpy as np
import pycolmap
import pytest
from scipy.spatial.distance import pdist

from sfm.colmap.model_writer import write_models, write_ply
from sfm.errors import BadFile
from sfm.georeferencing.frame import FRAME_FILE, read_frame
from sfm.georeferencing.placement import place, scale_doubts
from sfm.georeferencing.scale_bars import read_scale_bars
from tests.support.drone_scene import ORIGIN, centres_of, model_of, names_of, records_of, strips, tags_of

ENU = strips()


def written(out, *models):
    out.mkdir(exist_ok=True)
    write_models(models, out / "sparse")
    write_ply(models[0], out / "points.ply")
    return out


def read(out, number=0):
    return pycolmap.Reconstruction(out / "sparse" / str(number))


def true_enu(origin):
    """Camera centres in the frame of another origin."""
    from sfm.geometry.wgs84 import enu_from_wgs84, wgs84_from_enu

    return enu_from_wgs84(wgs84_from_enu(ENU, ORIGIN), np.array(list(origin.values())))


def test_a_model_is_put_where_it_was_taken_in_metres(tmp_path):
    own = model_of(ENU)
    out, before = written(tmp_path / "out", own), centres_of(own)
    record = place(out, records_of(tags_of(ENU)), gps=True)
    assert record["frame"] == "ENU"
    assert np.abs(list(record["origin"].values()) - ORIGIN).max() < 100  # of the images, not of the test
    after = centres_of(read(out))
    np.testing.assert_allclose(after, true_enu(record["origin"]), atol=1e-5)
    ratio = pdist(after) / pdist(before)
    np.testing.assert_allclose(ratio, 37.0, rtol=1e-9)  # a similarity: the shape is the same
    assert record["gps"]["fitting"] == len(ENU)
    assert record["gps"]["residuals_m"]["total"]["p90"] < 1e-4
    points = np.array([p.xyz for p in read(out).points3D.values()])
    assert abs(np.median(points[:, 2]) - (true_enu(record["origin"])[:, 2].mean() - 60)) < 1.0  # the ground below
    assert np.abs(pycolmap.Reconstruction(out / "sparse/0").image(1).viewing_direction() - [0, 0, -1]).max() < 1e-6


def test_errors_of_gps_and_wrong_positions_hardly_matter(tmp_path):
    tags = tags_of(ENU, noise=(2.0, 6.0))
    far = tags_of(ENU + np.random.default_rng(5).normal(0, 150, ENU.shape))
    wrong = [3, 9, 17, 22, 30, 31, 38]
    for i in wrong:
        tags[i] = far[i]
    out = written(tmp_path / "out", model_of(ENU))
    record = place(out, records_of(tags), gps=True)
    off = np.linalg.norm(centres_of(read(out)) - true_enu(record["origin"]), axis=1)
    assert off.max() < 6.0
    names = names_of(len(ENU))
    assert set(record["gps"]["outliers"]) <= {names[i] for i in wrong}
    assert len(record["gps"]["outliers"]) >= len(wrong) - 1  # one may be near by chance
    assert 1.0 < record["gps"]["residuals_m"]["horizontal"]["median"] < 4.0


def test_the_same_again_changes_no_byte_and_off_undoes_it(tmp_path):
    own = model_of(ENU)
    out, records = written(tmp_path / "out", own), records_of(tags_of(ENU, noise=(2.0, 5.0)))
    first = place(out, records, gps=True)
    content = {p.name: p.read_bytes() for p in (out / "sparse/0").iterdir()} | {"": (out / "points.ply").read_bytes()}
    assert place(out, records, gps=True) == json.loads(json.dumps(first))
    again = {p.name: p.read_bytes() for p in (out / "sparse/0").iterdir()} | {"": (out / "points.ply").read_bytes()}
    assert again == content
    assert place(out, records, gps=False) is None
    assert not (out / "sparse/0" / FRAME_FILE).exists()
    np.testing.assert_allclose(centres_of(read(out)), centres_of(own), atol=1e-9)
    assert place(out, records, gps=True)["text"] == first["text"]


def test_a_run_killed_before_its_points_were_written_writes_them(tmp_path):
    out, records = written(tmp_path / "out", model_of(ENU)), records_of(tags_of(ENU))
    place(out, records, gps=True)
    right = (out / "points.ply").read_bytes()
    write_ply(model_of(ENU), out / "points.ply")  # as the stage before had left it
    place(out, records, gps=True)
    assert (out / "points.ply").read_bytes() == right


def test_all_models_of_a_run_are_in_one_frame(tmp_path):
    rows = np.arange(len(ENU)) >= 25
    first, second = model_of(ENU), model_of(ENU)
    for i in range(26, len(ENU) + 1):
        first.deregister_frame(i)
    for i in range(1, 26):
        second.deregister_frame(i)
    second.transform(pycolmap.Sim3d(5.0, pycolmap.Rotation3d(np.array([0, 0, 1.0, 0])), np.array([1.0, 2, 3])))
    out = written(tmp_path / "out", first, second)
    record = place(out, records_of(tags_of(ENU)), gps=True)
    truth = true_enu(record["origin"])
    np.testing.assert_allclose(centres_of(read(out)), truth[~rows], atol=1e-4)
    np.testing.assert_allclose(centres_of(read(out, 1)), truth[rows], atol=1e-4)


def test_a_model_that_cannot_be_placed_stays_beside_one_that_is(tmp_path):
    first, second = model_of(ENU), model_of(ENU)
    for i in range(37, len(ENU) + 1):
        first.deregister_frame(i)
    for i in range(1, 37):
        second.deregister_frame(i)
    out, records = written(tmp_path / "out", first, second), records_of(tags_of(ENU))
    record = place(out, records, gps=True)
    assert record["models"] == ["ENU", "own"]
    assert record["text"].endswith("sparse/1 in a frame of its own")
    np.testing.assert_array_equal(centres_of(read(out, 1)), centres_of(second))
    content = [(out / f"sparse/{i}/images.bin").read_bytes() for i in (0, 1)]
    assert place(out, records, gps=True) == record
    assert [(out / f"sparse/{i}/images.bin").read_bytes() for i in (0, 1)] == content


def degenerate():
    line = strips(1, 30) * [0.0, 1, 0]
    close = strips() * [0.02, 0.02, 0.02]
    rng = np.random.default_rng(0)
    return {
        "on a line": (line, tags_of(line, (1.0, 2.0))),
        "too close": (close, tags_of(close, (3.0, 5.0))),
        "only 4": (ENU[:4], tags_of(ENU[:4])),
        "fit the model's shape": (ENU, tags_of(rng.uniform(-150, 150, ENU.shape))),
        "only 1 of": (ENU, tags_of(np.tile(ENU[:1], (len(ENU), 1)))),
    }


@pytest.mark.parametrize("why", degenerate())
def test_positions_that_determine_no_frame_leave_the_model_and_say_why(why, tmp_path):
    enu, tags = degenerate()[why]
    out = written(tmp_path / "out", model_of(enu))
    before = (out / "sparse/0/images.bin").read_bytes()
    record = place(out, records_of(tags), gps=True)
    assert record["frame"] == "own"
    assert why in record["text"] or why in record["gps"]["reason"]
    assert (out / "sparse/0/images.bin").read_bytes() == before
    assert read_frame(out / "sparse/0") is None


def test_images_without_gps_have_nothing_to_say(tmp_path):
    out = written(tmp_path / "out", model_of(ENU))
    assert place(out, records_of([None] * len(ENU)), gps=True) is None


def test_positions_without_altitude_put_a_level_flight_right(tmp_path):
    level = ENU * [1, 1, 0] + [0, 0, 60]
    tags = [type(tag)(tag.latitude, tag.longitude) for tag in tags_of(level, (1.0, 0.0))]
    out = written(tmp_path / "out", model_of(level))
    record = place(out, records_of(tags), gps=True)
    assert record["frame"] == "ENU"
    centres = centres_of(read(out))
    assert np.ptp(centres[:, 2]) < 6.0


def test_a_known_distance_alone_gives_the_scale_and_keeps_the_orientation(tmp_path):
    own, images = model_of(ENU), tmp_path / "images"
    images.mkdir()
    a, b = names_of(40)[2], names_of(40)[35]
    for name in (a, b):
        (images / name).touch()
    out = written(tmp_path / "out", own)
    bars = read_scale_bars(f"{a},{b},{np.linalg.norm(ENU[2] - ENU[35])}", images)
    record = place(out, records_of([None] * len(ENU)), gps=True, bars=bars)
    assert (record["frame"], read_frame(out / "sparse/0").origin) == ("metres", None)
    np.testing.assert_allclose(pdist(centres_of(read(out))), pdist(ENU), rtol=1e-9)
    before, after = own.image(1).cam_from_world(), read(out).image(1).cam_from_world()
    np.testing.assert_allclose(after.rotation.matrix(), before.rotation.matrix(), atol=1e-12)


def test_known_distances_set_the_scale_of_a_model_that_gps_places(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    names = names_of(40)
    for i in (0, 39):
        (images / names[i]).touch()
    bars = read_scale_bars(f"{names[0]},{names[39]},{1.02 * np.linalg.norm(ENU[0] - ENU[39])}", images)
    out = written(tmp_path / "out", model_of(ENU))
    record = place(out, records_of(tags_of(ENU, noise=(1.0, 3.0))), gps=True, bars=bars)
    np.testing.assert_allclose(pdist(centres_of(read(out))), 1.02 * pdist(ENU), rtol=1e-9)
    assert record["frame"] == "ENU"
    assert "differs by -" in record["text"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"frame": "ENU"}', "scale", "rotation", "origin"])
def test_a_damaged_frame_is_one_line(damage, tmp_path):
    out = written(tmp_path / "out", model_of(ENU))
    place(out, records_of(tags_of(ENU)), gps=True)
    path = out / "sparse/0" / FRAME_FILE
    value = json.loads(path.read_text())
    if damage in value:
        value[damage] = {"scale": -1, "rotation": [[1, 0], [0, 1]], "origin": {"latitude": 99}}[damage]
        path.write_text(json.dumps(value))
    else:
        path.write_text(damage)
    with pytest.raises(BadFile, match=r"frame\.json: damaged"):
        place(out, records_of(tags_of(ENU)), gps=True)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, ()),
        ({"scale_bars": {"used": True, "bars": [{"ends": ["a", "b"], "metres": 2.0, "residual_m": 0.01}]}}, ()),
        (
            {"scale_bars": {"used": True, "bars": [{"ends": ["a", "b"], "metres": 2.0, "residual_m": -1.0}]}},
            ("contradict each other, by 50% (a to b)",),
        ),
        (
            {
                "scale_bars": {"used": True, "bars": [{"ends": ["a", "b"], "metres": 2.0, "residual_m": 0.0}]}
                | {"gps_scale": 0.3},
                "gps": {"deviation": {"scale": 0.02}},
            },
            ("contradict GPS, whose scale differs by -70%",),
        ),
        (
            {"scale_bars": {"used": False, "bars": [], "not_measured": ["a: not in the model"]}},
            ("no known distance could be measured",),
        ),
    ],
)
def test_known_distances_that_are_wrong_are_doubted(record, words):
    found = scale_doubts(record)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))
