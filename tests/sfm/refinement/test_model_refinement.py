"""A sparse model of any origin, with the noise of a detector, against the exact scene that it is of."""

import numpy as np
import pycolmap
import pytest

from sfm.colmap.model_arrays import ModelColumns
from sfm.errors import BadFile
from sfm.options import RefinementOptions
from sfm.refinement import model_refinement as M
from tests.support.plane_scene import NAMES, PARAMS, make_model, perturbed, rendered, surface_points
from tests.support.refinement_scene import assert_same, largest_error_deg, mapped

SIGMA = 0.7  # px, of SIFT


def pixels_of(**changes):
    return M.PixelSource(**{"read_grey": lambda name: rendered(NAMES.index(name)), **changes})


def refine(model, scratch, pixels=None, **changes):
    return M.refine_model(model, pixels or pixels_of(), scratch, **{"options": RefinementOptions(), **changes})


@pytest.fixture(scope="module")
def noisy():
    """Read only."""
    return mapped(perturbed(surface_points(), SIGMA))


@pytest.fixture(scope="module")
def refined(noisy, tmp_path_factory):
    """Read only."""
    return refine(noisy, tmp_path_factory.mktemp("rounds"), fix_intrinsics=True)


def test_a_detectors_noise_is_gone(noisy, refined):
    before, after = largest_error_deg(noisy), largest_error_deg(refined.model)
    assert before > 0.15
    assert after < before / 5
    assert noisy.compute_mean_reprojection_error() > 0.6
    assert refined.model.compute_mean_reprojection_error() < 0.1


def test_what_was_done_is_counted(noisy, refined):
    num = noisy.compute_num_observations()
    assert 0.6 * num < refined.num_moved <= len(refined.moved_px) <= num
    assert 0.6 * SIGMA < np.median(refined.moved_px[refined.moved_px > 0.01]) < 2.5 * SIGMA
    assert refined.state.rounds >= 1
    assert refined.model.compute_num_observations() > 0.9 * num


def test_known_intrinsics_stay_and_others_are_found(noisy, refined, tmp_path):
    np.testing.assert_array_equal(refined.model.cameras[1].params, PARAMS)
    assert refined.cameras == ()
    off = pycolmap.Reconstruction(noisy)
    off.cameras[1].params = [1.01 * PARAMS[0], *PARAMS[1:3], 0.0]
    found = refine(off, tmp_path)
    assert abs(found.model.cameras[1].params[0] - PARAMS[0]) < 1.5
    assert found.cameras[0].startswith("camera 1 (5 images): f ")


def test_ids_and_the_worlds_frame_stay(noisy, tmp_path):
    """In map coordinates, far from the origin, with gaps in the ids."""
    far = pycolmap.Reconstruction()
    camera = pycolmap.Camera(noisy.cameras[1].todict())
    camera.camera_id = 7
    far.add_camera_with_trivial_rig(camera)
    for image_id, image in noisy.images.items():
        own = pycolmap.Image(name=image.name, camera_id=7, image_id=10 * image_id)
        own.points2D = pycolmap.Point2DList([pycolmap.Point2D(p.xy) for p in image.points2D])
        far.add_image_with_trivial_frame(own, image.cam_from_world())
    for point in noisy.points3D.values():
        elements = [pycolmap.TrackElement(10 * e.image_id, e.point2D_idx) for e in point.track.elements]
        far.add_point3D(point.xyz, pycolmap.Track(elements))
    far.transform(pycolmap.Sim3d(50.0, pycolmap.Rotation3d(), [4.5e5, 5.2e6, 300.0]))
    centres = {i: image.projection_center() for i, image in far.images.items()}
    found = refine(far, tmp_path, fix_intrinsics=True).model
    assert set(found.images) == {10, 20, 30, 40, 50}
    assert set(found.cameras) == {7}
    assert largest_error_deg(found) < 0.05
    for image_id, centre in centres.items():  # 300 units from the scene, and off by some degrees before
        assert np.linalg.norm(found.images[image_id].projection_center() - centre) < 15


def test_an_image_without_pixels_keeps_its_observations(noisy, tmp_path):
    def read(name):
        if name == NAMES[4]:
            return np.zeros_like(rendered(4))
        return rendered(NAMES.index(name))

    lost = pixels_of(read_grey=read, unusable=frozenset({NAMES[4]}))
    found = refine(noisy, tmp_path, lost, fix_intrinsics=True)
    before, after = (next(i for i in m.images.values() if i.name == NAMES[4]) for m in (noisy, found.model))
    kept = [j for j, p in enumerate(after.points2D) if p.has_point3D()]
    assert len(kept) > 0.8 * before.num_points3D
    assert all((after.points2D[j].xy == before.points2D[j].xy).all() for j in kept if j < len(before.points2D))
    assert largest_error_deg(found.model, NAMES[:4]) < largest_error_deg(noisy, NAMES[:4]) / 5


def test_the_model_itself_stays(noisy, tmp_path):
    untouched = pycolmap.Reconstruction(noisy)
    refine(noisy, tmp_path, options=RefinementOptions(rounds=1))
    assert_same(noisy, untouched, rtol=0)


def test_matches_hold_the_tracks_and_grow_linearly(noisy):
    columns = ModelColumns.of(noisy)
    matches = M.track_matches(columns)
    assert all(m.pair.name0 < m.pair.name1 for m in matches)
    point_of = {(i, j): p for p, i, j in zip(columns.point, columns.image, columns.point2D, strict=True)}
    num = 0
    for match in matches:
        sides = [columns.names.index(name) for name in (match.pair.name0, match.pair.name1)]
        for row in match.indices:
            assert point_of[sides[0], row[0]] == point_of[sides[1], row[1]]
        num += len(match.indices)
    assert num == sum(min(M.LINKS, length - 1 - k) for length in columns.track_lengths for k in range(length))


def test_a_point_twice_in_an_image_matches_nothing_with_itself():
    xyz = surface_points()[:30]
    model = make_model(xyz, [np.concatenate([o, o + 1]) for o in perturbed(xyz, 0.1)])
    for image_id in range(1, 6):
        model.add_observation(1, pycolmap.TrackElement(image_id, 30))
    pairs = [m.pair for m in M.track_matches(ModelColumns.of(model))]
    assert len(set(pairs)) == len(pairs)


def test_nothing_to_refine_is_said(noisy, tmp_path):
    bare = pycolmap.Reconstruction(noisy)
    bare.delete_all_points2D_and_points3D()
    with pytest.raises(BadFile, match="no points that its images observe"):
        refine(bare, tmp_path)
    around = pycolmap.Reconstruction(noisy)
    around.add_camera(pycolmap.Camera.create_from_model_name(2, "EQUIRECTANGULAR", 0.0, 640, 320))
    with pytest.raises(BadFile, match="camera 2: a EQUIRECTANGULAR camera has no focal length"):
        refine(around, tmp_path)
