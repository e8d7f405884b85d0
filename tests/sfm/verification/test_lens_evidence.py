"""Which lens the matches were seen through: exact points through lenses of several kinds, with noise and outliers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pycolmap
import pytest

from sfm.geometry.fisheye import fisheye_camera, rays_of, verify_fisheye_pair
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.options import VerificationOptions
from sfm.types import CameraPrior, ImagePair, ImageRecord, Matches
from sfm.verification.lens_evidence import chosen_pairs, fisheye_prior, fisheye_widths, lens_evidence
from tests.support.degenerate_scenes import pose

SIZE = (640, 480)
POSES = [pose([8.0 * i - 16, 5.0 * (i % 2)], np.array([0.7 * i - 1.4, 0.2 * (i % 3), 0.1 * i])) for i in range(5)]


def lens(model: str, *params: float) -> pycolmap.Camera:
    return pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=params)


FISHEYE = lens("OPENCV_FISHEYE", 270, 270, 320, 240, 0.03, -0.006, 0, 0)  # 160 degrees over the diagonal
PHONE = lens("SIMPLE_RADIAL", 520, 320, 240, -0.05)
WIDE = lens("SIMPLE_RADIAL", 330, 320, 240, -0.02)  # 88 degrees across


def seen(camera: pycolmap.Camera, num: int = 1500, wrong: float = 0.05) -> list[tuple[ImagePair, Matches]]:
    """All pairs of images of a room all around, through a lens."""
    rng = np.random.default_rng(3)
    xyz = rng.uniform([-9, -6, 1.5], [9, 6, 7], (num, 3))
    local = [xyz @ p[:, :3].T + p[:, 3] for p in POSES]
    found = [np.where((x[:, 2:] > 0.1), camera.img_from_cam(x), np.nan) for x in local]
    found = [xy + rng.normal(0, 0.4, xy.shape) for xy in found]
    items = []
    for i, j in combinations(range(len(POSES)), 2):
        both = [(xy > 0).all(1) & (xy < SIZE).all(1) for xy in (found[i], found[j])]
        rows = np.flatnonzero(both[0] & both[1])
        a, b = found[i][rows], found[j][rows]
        false = rng.uniform(size=len(rows)) < wrong
        b[false] = rng.uniform(0, SIZE, (false.sum(), 2))
        none = np.full(len(rows), -1)
        items.append((ImagePair(f"{i}.jpg", f"{j}.jpg"), Matches(a, b, np.ones(len(rows)), none, none)))
    return items


def test_a_fisheye_lens_is_seen_and_how_wide_it_is():
    evidence = lens_evidence(seen(FISHEYE), SIZE, 2.0)
    assert evidence.is_fisheye
    assert evidence.diagonal_deg == 160
    assert evidence.fisheye > 0.9 * evidence.num > evidence.pinhole
    widths = fisheye_widths(seen(FISHEYE), SIZE, 2.0)
    assert max(widths, key=lambda deg: widths[deg]) == 160


@pytest.mark.parametrize("camera", [PHONE, WIDE])
@pytest.mark.parametrize("wrong", [0.02, 0.3])
def test_other_lenses_are_none(camera, wrong):
    assert not lens_evidence(seen(camera, wrong=wrong), SIZE, 2.0).is_fisheye


def test_pairs_are_strong_and_of_many_images():
    names = [f"{i:02d}" for i in range(12)]
    counts = {ImagePair(a, b): 1000 - abs(int(a) - 5) - int(b) for a, b in combinations(names, 2)}
    chosen = chosen_pairs(counts | {ImagePair("x", "y"): 5000}, frozenset(names))
    assert len(chosen) == 10
    used = [name for pair in chosen for name in (pair.name0, pair.name1)]
    assert max(used.count(name) for name in names) <= 3
    assert {"x", "y"}.isdisjoint(used)


def test_rays_are_unit_and_none_where_the_lens_sees_none():
    xy = np.array([[320.0, 240.0], [600.0, 400.0]])
    rays = rays_of(FISHEYE, xy)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0)
    np.testing.assert_allclose(FISHEYE.img_from_cam(rays), xy, atol=1e-6)
    beyond = fisheye_camera(220, *SIZE)  # its corners are 110 degrees from the axis
    assert np.isnan(rays_of(beyond, np.array([[1.0, 1.0]]))).all()


def test_a_pair_through_a_fisheye_lens_has_its_pose():
    options, guess = VerificationOptions(), fisheye_camera(160, *SIZE)
    pair, matches = seen(FISHEYE)[0]
    for camera, limit in ((FISHEYE, 0.3), (guess, 2.0)):
        own = pycolmap.Camera(camera.todict())
        own.has_prior_focal_length = True
        found = verify_fisheye_pair(pair, matches, (own, own), options, max_error=2.0)
        assert found.kind == "calibrated"
        assert found.F is None
        assert len(found.inliers) > 0.8 * len(matches)
        true = relative_pose(POSES[0], POSES[1])
        assert max(pose_error_deg(found.cam1_from_cam0, true)) < limit


def test_random_matches_are_no_pair():
    rng = np.random.default_rng(0)
    a, b, none = rng.uniform(0, SIZE, (400, 2)), rng.uniform(0, SIZE, (400, 2)), np.full(400, -1)
    matches = Matches(a, b, np.ones(400), none, none)
    found = verify_fisheye_pair(ImagePair("a", "b"), matches, (FISHEYE, FISHEYE), VerificationOptions(), max_error=2.0)
    assert found.kind == "degenerate"


@pytest.mark.parametrize(("own", "model"), [("SIMPLE_RADIAL", "OPENCV_FISHEYE"), ("THIN_PRISM_FISHEYE",) * 2])
def test_the_camera_that_is_found(own, model):
    params = pycolmap.Camera.create_from_model_name(1, own, 700, *SIZE).params
    record = ImageRecord("a", *SIZE, CameraPrior(own, params, False, "one"), "")
    found = fisheye_prior(record, 160)
    assert (found.model, found.group, found.has_focal_prior) == (model, "one", True)
    assert found.params[0] == pytest.approx(800 / np.radians(160))
