"""Cube faces against pinhole images of the same scene that were never a panorama."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.rigs import cube_faces as C
from tests.support import panorama_scene as scene


def test_a_ray_leads_where_colmaps_own_camera_model_leads():
    camera = pycolmap.Camera.create_from_model_name(1, "EQUIRECTANGULAR", 0, 1000, 500)
    rays = np.random.default_rng(0).normal(size=(200, 3))
    np.testing.assert_allclose(C.panorama_xy(rays, 1000, 500), camera.img_from_cam(rays), atol=1e-9)


def test_directions_are_what_their_names_say():
    axis = {face: C.face_rotation(face).T @ [0, 0, 1] for face in C.DIRECTIONS}  # in the panorama: right, down, forward
    expected = {
        "front": (0, 0, 1),
        "right": (1, 0, 0),
        "back": (0, 0, -1),
        "left": (-1, 0, 0),
        "up": (0, -1, 0),
        "down": (0, 1, 0),
    }
    for face, direction in expected.items():
        np.testing.assert_allclose(axis[face], direction, atol=1e-12)
    for face in ("front", "right", "back", "left"):  # upright
        np.testing.assert_allclose(C.face_rotation(face).T @ [0, 1, 0], [0, 1, 0], atol=1e-12)


def test_neighbouring_faces_overlap_by_ten_degrees():
    side = C.face_side(1024)
    assert side == 388  # 2 * 162.97 * tan(50 degrees), even
    assert np.degrees(2 * np.arctan(side / 2 / C.face_focal(side))) == pytest.approx(C.FIELD_DEG) == 100.0
    assert C.face_focal(side) == pytest.approx(1024 / (2 * np.pi), rel=0.003)  # the resolution at the equator


@pytest.mark.parametrize("face", C.DIRECTIONS)
def test_a_face_is_the_pinhole_image_from_there(face):
    pose, side = scene.poses()[1], C.face_side(1024)
    image = C.render_face(np.repeat(scene.panorama(1)[..., None], 3, 2), face, side)
    rotation = C.face_rotation(face)
    exact = scene.pinhole(
        np.column_stack([rotation @ pose[:, :3], rotation @ pose[:, 3]]), side, side, C.face_focal(side)
    )
    off = np.abs(image[..., 0].astype(float) - exact)
    assert image.shape == (side, side, 3)
    assert off.mean() < 2.0
    shifted = np.abs(image[:, :-1, 0].astype(float) - exact[:, 1:])  # by a pixel: what half of one would do, twice
    assert shifted.mean() > 4 * off.mean()


def test_it_is_found_in_half_a_pixel_where_the_pixel_centre_is():
    """The best shift of a face against the exact image is none, to a few hundredths of a pixel."""
    pose, side = scene.poses()[2], C.face_side(1024)
    face = C.render_face(scene.panorama(2)[..., None], "front", side)[..., 0].astype(float)
    exact = scene.pinhole(pose, side, side, C.face_focal(side)).astype(float)
    gy, gx = np.gradient(exact)
    A = np.stack([gx.ravel(), gy.ravel()], 1)
    shift = np.linalg.lstsq(A, (face - exact).ravel(), rcond=None)[0]
    assert np.abs(shift).max() < 0.02


def test_across_the_seam_and_over_the_poles_nothing_is_seen():
    """The back face looks at the seam, and the up face at a pole, where columns are one point."""
    pose, side = scene.poses()[0], C.face_side(1024)
    image = C.render_face(scene.panorama(0)[..., None], "back", side)[..., 0].astype(float)
    rotation = C.face_rotation("back")
    exact = scene.pinhole(
        np.column_stack([rotation @ pose[:, :3], rotation @ pose[:, 3]]), side, side, C.face_focal(side)
    )
    off = np.abs(image - exact)
    middle = off[:, side // 2 - 2 : side // 2 + 2].mean()
    assert middle < 1.5 * off.mean()


def test_a_mask_stays_black_and_white():
    mask = np.full((256, 512, 1), 255, np.uint8)
    mask[128:] = 0  # what is below the horizon
    front = C.render_face(mask, "front", 200, nearest=True)[..., 0]
    assert set(np.unique(front)) == {0, 255}
    assert (front[:100] == 255).all()
    assert (front[100:] == 0).all()
    assert (C.render_face(mask, "down", 200, nearest=True) == 0).all()


def test_bands_make_no_difference(monkeypatch):
    panorama = scene.panorama(0, 512)[..., None]
    whole = C.render_face(panorama, "left", 194)
    monkeypatch.setattr(C, "BAND", 7)
    np.testing.assert_array_equal(C.render_face(panorama, "left", 194), whole)
