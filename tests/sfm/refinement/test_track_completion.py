"""track_completion: split tracks become one, missing images are registered, all on the keypoints of the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm.alignment.patch_warps import references
from sfm.colmap.model_arrays import ModelColumns
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.mapping.final_database import final_input
from sfm.mapping.inputs import write_database
from sfm.options import MappingOptions
from sfm.refinement import track_completion
from sfm.refinement.track_completion import MARGIN, add_proposals, complete, on_usable, open_matches, propose
from sfm.types import KeypointMatches
from tests.support.plane_scene import (
    HEIGHT,
    NAMES,
    WIDTH,
    make_input,
    make_model,
    perturbed,
    poses,
    project,
    surface_points,
)

OPTIONS = MappingOptions(threads=1)


@pytest.fixture(scope="module")
def scene():
    xyz = surface_points()
    observations = perturbed(xyz, 0.05)
    return xyz, observations, make_input(observations)


def track_of(model, image_id, j):
    """(image, row) of all observations of the point that this one is of."""
    point = model.points3D[model.images[image_id].points2D[j].point3D_id]
    return sorted((e.image_id, e.point2D_idx) for e in point.track.elements)


def split(model, j):
    """Makes two points of the point of row j: images 1 to 3 see one, 4 and 5 the other."""
    point_id = model.images[1].points2D[j].point3D_id
    xyz = model.points3D[point_id].xyz.copy()
    model.delete_point3D(point_id)
    for images in ((1, 2, 3), (4, 5)):
        model.add_point3D(xyz + 0.002, pycolmap.Track([pycolmap.TrackElement(i, j) for i in images]))


def done(model, data, tmp_path, **changes):
    write_database(tmp_path / "completion.db", data)
    return complete(model, data, OPTIONS, tmp_path / "completion.db", **{"max_error": 1.0, "register": True, **changes})


def test_a_split_track_is_one_afterwards(scene, tmp_path):
    xyz, observations, data = scene
    model = make_model(xyz, observations)
    for j in (0, 7):
        split(model, j)
    model.delete_observation(2, 9)
    assert (model.num_points3D(), model.compute_num_observations()) == (len(xyz) + 2, 5 * len(xyz) - 1)
    assert done(model, data, tmp_path) == 0
    assert (model.num_points3D(), model.compute_num_observations()) == (len(xyz), 5 * len(xyz))
    for j in (0, 7, 9):
        assert track_of(model, 1, j) == [(i, j) for i in range(1, 6)]


def test_a_point_that_is_missing_is_triangulated(scene, tmp_path):
    xyz, observations, data = scene
    model = make_model(xyz, observations)
    model.delete_point3D(model.images[1].points2D[4].point3D_id)
    done(model, data, tmp_path)
    assert track_of(model, 1, 4) == [(i, 4) for i in range(1, 6)]
    found = model.points3D[model.images[1].points2D[4].point3D_id].xyz
    np.testing.assert_allclose(found, xyz[4], atol=0.02)


@pytest.mark.parametrize("register", [True, False])
def test_an_image_left_out_is_registered(scene, tmp_path, register):
    xyz, observations, data = scene
    model = make_model(xyz, observations, images=[0, 1, 3, 4])
    assert done(model, data, tmp_path, register=register) == register
    assert sorted(model.images[i].name for i in model.reg_image_ids()) == [
        n for n in NAMES if register or n != NAMES[2]
    ]
    if register:
        found = [model.images[i].cam_from_world().matrix() for i in (1, 3)]
        assert max(pose_error_deg(relative_pose(*found), relative_pose(poses()[0], poses()[2]))) < 0.2
        assert track_of(model, 3, 5) == [(i, 5) for i in range(1, 6)]


def test_observations_that_are_too_far_off_join_nothing(scene, tmp_path):
    xyz, observations, _ = scene
    moved = [own.copy() for own in observations]
    moved[1][6] += [3.0, -3.0]
    model = make_model(xyz, moved)
    model.delete_observation(2, 6)
    done(model, make_input(moved), tmp_path, max_error=2.0)
    assert (2, 6) not in track_of(model, 1, 6)
    assert len(track_of(model, 1, 6)) == 4


def test_poses_and_cameras_stay(scene, tmp_path):
    xyz, observations, data = scene
    model = make_model(xyz, observations)
    before = {i: model.images[i].cam_from_world().matrix() for i in range(1, 6)}
    params = model.cameras[1].params.copy()
    done(model, data, tmp_path)
    for i in range(1, 6):
        np.testing.assert_allclose(model.images[i].cam_from_world().matrix(), before[i], atol=1e-12)
    np.testing.assert_array_equal(model.cameras[1].params, params)


def test_the_models_keypoints_are_what_mapping_reads(scene):
    xyz, observations, data = scene
    moved = [own + 0.25 for own in observations]
    result = final_input(data, [make_model(xyz, moved, images=[0, 1, 4])])
    for i in range(5):
        expected = moved[i] if i in (0, 1, 4) else observations[i]
        np.testing.assert_array_equal(result.keypoints[i].xy, expected.astype(np.float32))
        np.testing.assert_array_equal(result.keypoints[i].score, data.keypoints[i].score)
    assert replace(result, keypoints=data.keypoints) == data


def test_the_database_of_an_interrupted_run_is_replaced(scene, tmp_path):
    xyz, observations, data = scene
    Path(tmp_path / "completion.db").write_bytes(b"half of a database")
    model = make_model(xyz, observations)
    assert done(model, data, tmp_path) == 0
    assert model.num_points3D() == len(xyz)


def damaged(xyz, observations, data, seed):
    """A model that lacks points and observations, and matches of which some are absent and others are false."""
    rng = np.random.default_rng(seed)
    images = [0, 1, 3, 4] if seed % 2 else range(5)
    model = make_model(xyz, observations, images=images)
    for j in rng.choice(len(xyz), 12, replace=False):
        split(model, int(j)) if seed % 2 == 0 else model.delete_point3D(model.images[1].points2D[j].point3D_id)
    for image_id, j in zip(rng.choice([1, 2, 4, 5], 60), rng.choice(len(xyz), 60), strict=True):
        if model.images[image_id].points2D[j].has_point3D():
            model.delete_observation(int(image_id), int(j))
    matches = []
    for own in data.matches:
        indices = own.indices[np.sort(rng.permutation(len(own.indices))[: int(rng.integers(20, len(own.indices)))])]
        indices[:10, 1] = indices[:10, 1][::-1]
        matches.append(KeypointMatches(own.pair, indices, np.ones(len(indices))))
    return model, replace(data, matches=tuple(matches))


@pytest.mark.parametrize("seed", range(6))
def test_matches_within_points_add_nothing(scene, tmp_path, seed):
    found = []
    for reduce in (lambda data, _: data, lambda data, model: open_matches(data, ModelColumns.of(model))):
        model, data = damaged(*scene, seed)
        data = reduce(data, model)
        before = model.num_points3D(), model.compute_num_observations()
        registered = done(model, data, tmp_path)
        points = model.points3D.values()
        tracks = {tuple(sorted((e.image_id, e.point2D_idx) for e in p.track.elements)): p.xyz for p in points}
        found.append((registered, tracks, sum(len(own.indices) for own in data.matches)))
        assert before != (model.num_points3D(), model.compute_num_observations())
    (registered, tracks, num_matches), (same, same_tracks, fewer) = found
    assert registered == same
    assert fewer < num_matches
    assert same_tracks.keys() == tracks.keys()
    for track, xyz in tracks.items():
        np.testing.assert_allclose(same_tracks[track], xyz, atol=1e-9)


def test_of_a_whole_model_few_matches_are_open(scene):
    xyz, observations, data = scene
    reduced = open_matches(data, ModelColumns.of(make_model(xyz, observations)))
    assert [own.pair for own in reduced.matches] == [own.pair for own in data.matches]
    assert all(len(own.indices) for own in reduced.matches)
    assert sum(len(own.indices) for own in reduced.matches) <= 4 * len(xyz) + len(data.matches)
    kept = {(own.pair.name0, i) for own in reduced.matches for i in own.indices[:, 0]}
    kept |= {(own.pair.name1, i) for own in reduced.matches for i in own.indices[:, 1]}
    assert len(kept) == 5 * len(xyz)


def missing_in(model, image_id, rows):
    """Takes the observations of these points out of an image."""
    for j in rows:
        model.delete_observation(image_id, j)
    return model


def test_points_are_proposed_where_they_should_be_seen(scene):
    """Just those that were taken out, at their projections; points near the rim of an image are not."""
    xyz = scene[0]
    model = missing_in(make_model(xyz, [project(i, xyz) for i in range(5)]), 2, range(0, 40))
    columns = ModelColumns.of(model)
    found = propose(columns, references(columns))
    there = project(1, xyz)
    inside = ((there > MARGIN * WIDTH) & (there < np.array([WIDTH, HEIGHT]) - MARGIN * WIDTH)).all(axis=1)
    assert sorted(found.point[found.image == 1]) == [j for j in range(40) if inside[j]]
    np.testing.assert_allclose(found.xy, there[found.point], atol=1e-6)
    assert (found.image == 1).all()


def test_proposals_become_observations_with_keypoints_of_their_own(scene):
    xyz = scene[0]
    model = missing_in(make_model(xyz, [project(i, xyz) for i in range(5)]), 2, range(0, 40))
    columns = ModelColumns.of(model)
    found = propose(columns, references(columns))
    num = len(model.images[2].points2D)
    add_proposals(model, columns, found)
    assert len(model.images[2].points2D) == num + len(found.point)
    assert model.compute_num_observations() == len(columns.point) + len(found.point)
    last = model.images[2].points2D[num]
    assert last.point3D_id == columns.point_ids[found.point[0]]
    np.testing.assert_array_equal(last.xy, found.xy[0])
    keypoints = final_input(scene[2], [model]).keypoints[1]
    assert len(keypoints) == num + len(found.point)
    assert (keypoints.score[num:] == 0).all()


def test_no_point_is_proposed_to_an_image_that_shares_next_to_nothing(scene):
    xyz = scene[0]
    model = missing_in(make_model(xyz, [project(i, xyz) for i in range(5)]), 2, range(len(xyz) - 5))
    columns = ModelColumns.of(model)
    assert len(propose(columns, references(columns)).point) == 0


def test_masked_out_pixels_get_no_proposal(scene):
    xyz = scene[0]
    model = missing_in(make_model(xyz, [project(i, xyz) for i in range(5)]), 2, range(0, 40))
    columns = ModelColumns.of(model)
    found = propose(columns, references(columns))
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, : WIDTH // 2] = True
    kept = on_usable(found, columns, lambda name: mask if name == NAMES[1] else None)
    assert 0 < len(kept.point) < len(found.point)
    np.testing.assert_array_equal(kept.xy, found.xy[found.xy[:, 0] < WIDTH // 2])
    assert len(on_usable(found, columns, lambda name: None).point) == len(found.point)


def test_an_image_of_a_large_model_is_given_no_more_than_enough(scene, monkeypatch):
    """The shortest tracks first, and images that have enough get none."""
    xyz = scene[0]
    model = missing_in(make_model(xyz, [project(i, xyz) for i in range(5)]), 2, range(0, 40))
    missing_in(model, 4, range(0, 10))
    columns = ModelColumns.of(model)
    every = propose(columns, references(columns))
    own = [int((columns.image == row).sum()) for row in range(5)]
    assert own[1] == len(xyz) - 40
    monkeypatch.setattr(track_completion, "MANY", 100)
    monkeypatch.setattr(track_completion, "ENOUGH", own[1] + 8)
    found = propose(columns, references(columns))
    assert set(found.image) == {1}
    assert len(found.point) == 8
    lengths, offered = columns.track_lengths, every.point[every.image == 1]
    assert sorted(lengths[found.point]) == sorted(lengths[offered])[:8]
    assert set(found.point) <= set(offered)
