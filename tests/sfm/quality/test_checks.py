"""The verdict on degenerate sets of images, mapped by the real mapping, and each sign at its limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm.calibration.focal_prior import FocalEvidence
from sfm.colmap.model_arrays import ModelColumns
from sfm.errors import NoModel
from sfm.mapping import stage as mapping
from sfm.quality import checks as verdict
from sfm.quality.checks import Evidence, warnings
from sfm.types import Grid, ImagePair, MatcherTraits
from tests.support.degenerate_scenes import arc, input_of, nadir, plane, pose, room, rotating, street
from tests.support.mapping_scene import FOCAL, OPTIONS, with_cameras


def signs(data, models) -> list[str]:
    return [warning.sign for warning in warnings(Evidence(models[0], models[0], tuple(models[1:]), data))]


def mapped_signs(data, folder: Path) -> list[str]:
    return signs(data, mapping.reconstruct(data, OPTIONS, folder).models)


def moved(model: pycolmap.Reconstruction, names, shift) -> pycolmap.Reconstruction:
    """The model with some cameras elsewhere, and what they see there too: of each point they share a second one."""
    result = pycolmap.Reconstruction(model)
    shift = np.asarray(shift, np.float64)
    theirs = {i for i in result.reg_image_ids() if result.image(i).name in names}
    for point_id in sorted(result.point3D_ids()):
        point = result.points3D[point_id]
        observed = [(e.image_id, e.point2D_idx) for e in point.track.elements]
        inside, outside = ([e for e in observed if (e[0] in theirs) == own] for own in (True, False))
        xyz = np.array(point.xyz)
        result.delete_point3D(point_id)
        for elements, at in (inside, xyz + shift), (outside, xyz):
            if len(elements) >= 2:
                result.add_point3D(at, pycolmap.Track([pycolmap.TrackElement(*e) for e in elements]))
    for image_id in theirs:
        image = result.image(image_id)
        pose = image.cam_from_world()
        image.frame.set_cam_from_world(
            image.camera_id, pycolmap.Rigid3d(pose.rotation, pose.translation - pose.rotation.matrix() @ shift)
        )
    return result


# --- images that determine a model: no warning ----------------------------------------------------


@pytest.mark.parametrize("focal_prior", [True, False])
def test_a_good_scene_has_no_warning(focal_prior, tmp_path):
    assert mapped_signs(input_of([(arc(), room())], focal_prior=focal_prior), tmp_path) == []


def test_a_plane_from_many_directions_determines_the_focal_length(tmp_path):
    assert mapped_signs(input_of([(arc(), plane() + np.array([0, 0, 1]))], focal_prior=False), tmp_path) == []


def test_a_plane_from_the_front_is_no_warning_where_the_focal_length_is_known(tmp_path):
    assert mapped_signs(input_of([(nadir(), plane())], focal_prior=True), tmp_path) == []


# --- images that do not -------------------------------------------------------------------------


def test_a_plane_from_the_front_with_unknown_focal_length(tmp_path):
    assert "free focal length" in mapped_signs(input_of([(nadir(), plane())], focal_prior=False), tmp_path)


def test_a_camera_that_moves_in_a_line_without_rotating_and_unknown_focal_length(tmp_path):
    line = [np.column_stack([np.eye(3), [-0.5 * i, 0, 0]]) for i in range(6)]
    assert "free focal length" in mapped_signs(input_of([(line, room())], focal_prior=False), tmp_path)


def test_a_camera_that_only_turns_with_unknown_focal_length(tmp_path):
    data = input_of([(rotating(), room())], focal_prior=False)
    assert mapped_signs(data, tmp_path) == ["no parallax"]  # mapping makes a model with points 8 degrees wide of it


def test_a_camera_that_only_turns_gives_no_model_and_is_told_why(tmp_path):
    with pytest.raises(NoModel, match="differ by a pure rotation"):
        mapping.reconstruct(input_of([(rotating(), room())], focal_prior=True), OPTIONS, tmp_path)


def test_a_tiny_baseline_with_unknown_focal_length(tmp_path):
    steps = [pose([i, 0.5 * (i % 2)], np.array([0.02 * i, 0, 0])) for i in range(6)]  # 0.1 aside, points 4 to 8 away
    assert mapped_signs(input_of([(steps, room())], focal_prior=False), tmp_path) == ["no parallax"]


def test_a_camera_that_moves_straight_ahead_with_unknown_focal_length(tmp_path):
    ahead = [pose([0, 0], np.array([0.02 * i, 0, 0.3 * i])) for i in range(6)]
    found = mapped_signs(input_of([(ahead, room())], focal_prior=False), tmp_path)
    assert {"absurd focal length", "free focal length"} <= set(found)


def test_places_that_look_alike_are_told(tmp_path, mapping_data, mapped):
    """As many matches say that both ends of the street are one place as say that they are not: no sign, but a note."""
    poses, xyz, look = street()
    data = input_of([(poses, xyz)], focal_prior=True, look=look)
    (note,) = mapping.repeated_structure(mapping.reconstruct(data, OPTIONS, tmp_path).models[0], data)
    assert "pairs contradict the model, probably because of repeated structure" in note
    assert mapping.repeated_structure(mapped[1].models[0], mapping_data) == ()


def test_two_scenes_that_cannot_be_joined(tmp_path):
    data = input_of([(arc(), room()), (arc(5), room(7))], focal_prior=True)
    assert mapped_signs(data, tmp_path) == ["in pieces"]


def test_half_of_the_images_folded_onto_a_wrong_place(mapping_data, mapped):
    names = [record.name for record in mapping_data.images[:3]]
    folded = moved(mapped[1].models[0], names, (0.5, 0, 0))
    (warning,) = warnings(Evidence(folded, folded, (), mapping_data))
    assert warning.sign == "contradicted"
    assert warning.text.startswith("3 of 6 images")


def test_one_wrong_image_of_many_is_no_verdict_on_the_model(mapping_data, mapped):
    """Mapping and refinement take single images out; what is left of such a case is in the list of images."""
    folded = moved(mapped[1].models[0], [mapping_data.images[0].name], (0.5, 0, 0))
    assert "contradicted" not in signs(mapping_data, [folded])


# --- each sign at its limit ----------------------------------------------------------------------


@pytest.mark.parametrize(("registered", "usable", "expected"), [(5, 11, 1), (5, 10, 0), (2, 2, 0), (0, 1, 1)])
def test_few_registered(registered, usable, expected):
    assert len(list(verdict.few_registered(registered, usable))) == expected


@pytest.mark.parametrize(("registered", "elsewhere", "expected"), [(10, 0, 0), (10, 4, 0), (10, 5, 1), (3, 9, 1)])
def test_in_pieces(registered, elsewhere, expected):
    assert len(list(verdict.in_pieces(registered, elsewhere))) == expected


def test_images_of_smaller_models_that_the_largest_has_too_count_not(mapping_data, mapped):
    model = mapped[1].models[0]
    assert Evidence(model, model, (model, model), mapping_data).elsewhere == 0


def test_places_that_refused_pairs_part_are_models_of_their_own(tmp_path):
    data = input_of([(arc(), room()), (arc(5), room(7))], focal_prior=True)
    models = mapping.reconstruct(data, OPTIONS, tmp_path).models
    first, second = (sorted(m.image(i).name for i in m.reg_image_ids()) for m in models[:2])
    refused = frozenset({ImagePair.of(first[0], second[0])})
    found = Evidence(models[0], models[0], tuple(models[1:]), data, refused=refused)
    assert found.places == frozenset(second)
    assert found.elsewhere == 0
    assert warnings(found) == ()
    within = frozenset({ImagePair(first[0], first[1])})
    assert Evidence(models[0], models[0], tuple(models[1:]), data, refused=within).places == frozenset()


def noisy(model, sigma):
    """The model with observations off by sigma px in x and y."""
    result, rng = pycolmap.Reconstruction(model), np.random.default_rng(0)
    for image in result.images.values():
        for point in image.points2D:
            point.xy = point.xy + rng.normal(0, sigma, 2)
    return ModelColumns.of(result)


def test_high_error_is_one_network_pixel(mapping_data, mapped):
    model = mapped[1].models[0]
    assert list(verdict.large_error(noisy(model, 0.0), mapping_data)) == []
    (warning,) = verdict.large_error(noisy(model, 1.2), mapping_data)  # 1.25 sigma on average
    assert warning.sign == "high error"
    coarse = dict.fromkeys(mapping_data.grids, Grid(16.0, 16.0, 40))
    assert list(verdict.large_error(noisy(model, 1.2), replace(mapping_data, grids=coarse))) == []  # 2 image px a px
    detector = replace(mapping_data, grids={}, traits=MatcherTraits())
    assert list(verdict.large_error(noisy(model, 1.2), detector)) == []


def test_points_behind_cameras(mapped):
    columns = ModelColumns.of(mapped[1].models[0])
    assert list(verdict.behind_cameras(columns)) == []
    behind = replace(
        columns, xyz=np.where(np.arange(len(columns.xyz))[:, None] % 10, columns.xyz, columns.xyz - [0, 0, 50])
    )
    (warning,) = verdict.behind_cameras(behind)
    assert warning.sign == "behind cameras"


def test_little_parallax(mapped):
    columns = ModelColumns.of(mapped[1].models[0])
    assert list(verdict.little_parallax(columns)) == []
    close = replace(columns, translations=-np.einsum("nij,nj->ni", columns.rotations, columns.centres * 1e-3))
    far = replace(close, xyz=columns.xyz + np.array([0, 0, 60]))
    assert [warning.sign for warning in verdict.little_parallax(far)] == ["no parallax"]


@pytest.mark.parametrize(
    ("focal", "prior", "expected"),
    [(600, 600, 0), (1250, 600, 1), (290, 600, 1), (100, None, 1), (6000, None, 1), (900, None, 0)],
)
def test_absurd_focal_length(focal, prior, expected, mapping_data, mapped):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    for camera in model.cameras.values():
        camera.focal_length = focal
    data = with_cameras(mapping_data, [prior or FOCAL, 320.0, 240.0, 0.0], prior is not None)
    assert len(list(verdict.absurd_focal(model, data))) == expected


def test_a_model_without_points_or_numbers_is_bad(mapping_data, mapped):
    empty = pycolmap.Reconstruction(mapped[1].models[0])
    for point_id in list(empty.point3D_ids()):
        empty.delete_point3D(point_id)
    assert signs(mapping_data, [empty]) == ["no numbers"]
    broken = pycolmap.Reconstruction(mapped[1].models[0])
    broken.points3D[min(broken.point3D_ids())].xyz = [np.nan, 0, 0]
    assert signs(mapping_data, [broken]) == ["no numbers"]


# --- known poses are the user's -------------------------------------------------------------------


def known(data, model):
    return [warning.sign for warning in warnings(Evidence(model, model, (), data, known_poses=True))]


def test_known_poses_are_judged_by_the_matches_alone(mapping_data, mapped):
    assert known(mapping_data, mapped[1].models[0]) == []
    names = [record.name for record in mapping_data.images]
    assert known(mapping_data, moved(mapped[1].models[0], names[:1], (0, 0.5, 0))) == []  # five pairs of fifteen
    assert known(mapping_data, moved(mapped[1].models[0], names[:3], (0, 0.5, 0))) == ["contradicted"]


@pytest.mark.parametrize(
    ("focal", "distortion", "deviation", "expected"),
    [(1600, 0.9, 0.06, 1), (700, 0.9, 0.06, 1), (1600, 0.9, 0.01, 0), (700, 0.02, 0.06, 0), (300, 0.0, 0.06, 1)],
)
def test_a_camera_that_hardly_is_one_and_hardly_determined(
    focal, distortion, deviation, expected, mapping_data, mapped, monkeypatch
):
    """Few lenses are like that: wrong, unless the images determine it. Of usual ones some per cent do not matter."""
    model = pycolmap.Reconstruction(mapped[1].models[0])
    for camera in model.cameras.values():
        camera.params = [focal, 320.0, 240.0, distortion]
    found = FocalEvidence(1, focal, focal, deviation)
    monkeypatch.setattr(verdict, "focal_evidence", lambda model, camera_id, prior: found)
    monkeypatch.setattr(verdict, "focal_deviation", lambda model, camera_id: deviation)
    data = with_cameras(mapping_data, [FOCAL, 320.0, 240.0, 0.0], False)
    assert [warning.sign for warning in verdict.free_focal(model, data)] == ["free focal length"] * expected


@pytest.mark.parametrize(("given", "expected"), [(FOCAL, []), (0.6 * FOCAL, ["contradicts intrinsics"])])
def test_intrinsics_that_the_images_contradict_are_doubted(given, expected, tmp_path):
    data = with_cameras(input_of([(arc(), room())], focal_prior=True), [given, 320.0, 240.0, 0.0], True)
    found = mapped_signs(replace(data, known_intrinsics=True), tmp_path)
    assert [sign for sign in found if sign == "contradicts intrinsics"] == expected
