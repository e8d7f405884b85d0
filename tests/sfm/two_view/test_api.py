"""two_view: exact scenes against the ground truth and OpenCV, what must not be trusted, and image files end to end."""

import json
import shutil

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from sfm.errors import BadImage, BadOption
from sfm.evaluation.options import PairEvaluation
from sfm.geometry.epipolar import epipolar_distance, epipolar_line_distance, essential_matrix, fundamental_matrix
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.matchers.registry import make_matcher
from sfm.options import MatchingOptions
from sfm.two_view.api import match_images, match_records, read_images, two_view
from sfm.two_view.options import MatchOptions, TwoImageOptions
from sfm.two_view.result_text import focal_px, result_dict, result_text
from sfm.types import MatcherTraits, Matches
from tests.support.folders import DEMO
from tests.support.pair_scene import FOCAL, HEIGHT, POSE, WIDTH, K, record, two_views

A, B, C = (DEMO / "images" / f"view_{i:02d}.jpg" for i in (3, 5, 11))
IMAGES = (record("a"), record("b"))


def ground_truth(a=A, b=B):
    """cam1_from_cam0 of two demo images."""
    model = pycolmap.Reconstruction(str(DEMO / "gt"))
    poses = {image.name: np.array(image.cam_from_world().matrix()) for image in model.images.values()}
    return relative_pose(poses[a.name], poses[b.name])


def direction(matrix):
    """A matrix without its scale and sign."""
    unit = matrix / np.linalg.norm(matrix)
    return unit * np.sign(unit.flat[np.abs(unit).argmax()])


# --- the pure core


def test_geometry_and_pose_of_an_exact_scene():
    matches, num_true = two_views(share_false=0.4)
    result = two_view(matches, IMAGES, max_error=2.0)
    assert result.kind == "calibrated"
    assert result.inliers.shape == (1500,)
    assert np.count_nonzero(result.inliers[:num_true]) > 0.97 * num_true
    assert result.inlier_ratio == result.num_inliers / 1500
    assert max(pose_error_deg(result.cam1_from_cam0, POSE)) < 0.25
    assert np.linalg.norm(result.cam1_from_cam0[:, 3]) == pytest.approx(1.0)
    np.testing.assert_allclose(direction(result.E), direction(essential_matrix(POSE)), atol=4e-3)
    assert result.rotation_deg == pytest.approx(np.degrees(Rotation.from_matrix(POSE[:, :3]).magnitude()), abs=0.25)
    centre = -POSE[:, :3].T @ POSE[:, 3]
    np.testing.assert_allclose(result.centre1_in_cam0, centre / np.linalg.norm(centre), atol=5e-3)
    assert result.trusted
    assert result.remarks == ()


def test_fundamental_matrix_is_as_good_as_opencvs():
    matches, _ = two_views(share_false=0.4)
    result = two_view(matches, IMAGES, max_error=2.0)
    theirs, _ = cv2.findFundamentalMat(matches.points0, matches.points1, cv2.USAC_MAGSAC, 1.0, 0.9999, 10_000)
    exact = two_views(share_false=0.0, seed=5)[0]  # other points of the same cameras
    ours = np.median(epipolar_distance(exact.points0, exact.points1, result.F))
    assert ours < 1.1 * np.median(epipolar_distance(exact.points0, exact.points1, theirs))
    assert ours < 1.05 * np.median(epipolar_distance(exact.points0, exact.points1, fundamental_matrix(K, K, POSE)))
    lines = epipolar_line_distance(matches.points0[result.inliers], matches.points1[result.inliers], result.F)
    assert result.epipolar_px == pytest.approx(lines.mean())


def test_parallax_is_the_angle_between_rays():
    """Points straight ahead at 5 m, cameras 1 m apart and parallel: 2 atan(0.1) where a point is between them."""
    pose = np.concatenate([np.eye(3), [[-1.0], [0.0], [0.0]]], 1)
    matches, _ = two_views(share_false=0.0, pose=pose)
    result = two_view(matches, IMAGES, max_error=2.0)
    assert np.degrees(np.arctan(1 / 8)) < result.parallax_deg < np.degrees(np.arctan(1 / 4))


def few(num):
    matches, _ = two_views(num=num, share_false=0.0)
    return matches


@pytest.mark.parametrize(
    ("matches", "prior", "word"),
    [
        (Matches.empty(), True, "too few matches for a geometry: 0"),
        (few(9), True, "too few matches for a geometry: 9"),
        (few(30), True, "only 30 inliers"),
        (two_views(num=1500, share_false=1.0)[0], True, "expected by chance"),
        (two_views(share_false=0.75)[0], True, "of the matches are inliers"),
        (two_views(share_false=0.1, flat=True)[0], True, "on a plane"),
        (two_views(share_false=0.1, pose=np.c_[POSE[:, :3], np.zeros(3)])[0], True, "only rotated"),
        (two_views(share_false=0.1, pose=np.c_[POSE[:, :3], [0.12, 0, 0]])[0], True, "hardly any parallax"),
        (two_views(share_false=0.1)[0], False, "estimated from these matches alone"),
        (two_views(share_false=0.1, pose=np.c_[np.eye(3), [1, 0, 0]])[0], False, "only guessed"),
    ],
)
def test_what_speaks_against_a_pose_is_said(matches, prior, word):
    result = two_view(matches, (record("a", prior), record("b", prior)), max_error=2.0)
    assert any(word in remark for remark in result.remarks)
    assert not result.trusted
    assert word in result_text(result)
    json.dumps(result_dict(result), allow_nan=False)


def test_a_focal_length_that_nothing_tells_is_taken_from_the_matches():
    result = two_view(two_views(share_false=0.3)[0], (record("a", False), record("b", False)), max_error=2.0)
    assert result.focal_sources == ("estimated", "estimated")
    assert focal_px(result.images[0]) == focal_px(result.images[1]) == pytest.approx(FOCAL, rel=0.06)
    assert max(pose_error_deg(result.cam1_from_cam0, POSE)) < 1.5
    known = two_view(two_views(share_false=0.3)[0], (record("a", True), record("b", False)), max_error=2.0)
    assert known.images[0].camera.params[0] == FOCAL


def test_numbers_as_json():
    result = two_view(two_views()[0], IMAGES, max_error=2.0)
    numbers = json.loads(json.dumps(result_dict(result), allow_nan=False))
    assert numbers["matches"] == 1500
    assert numbers["inliers"] == result.num_inliers
    np.testing.assert_array_equal(numbers["F"], result.F)
    np.testing.assert_array_equal(numbers["cam1_from_cam0"], result.cam1_from_cam0)
    assert [image["focal_px"] for image in numbers["photos"]] == [FOCAL, FOCAL]
    assert [image["width"] for image in numbers["photos"]] == [WIDTH, WIDTH]
    assert numbers["photos"][0]["height"] == HEIGHT
    assert numbers["trusted"] is True


def test_result_does_not_depend_on_repetition():
    matches, _ = two_views()
    first, second = (two_view(matches, IMAGES, max_error=2.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.cam1_from_cam0, second.cam1_from_cam0)
    np.testing.assert_array_equal(first.inliers, second.inliers)


# --- image files


@pytest.mark.parametrize("changes", [{"weights": "compact"}, {"matcher": "sift"}])
def test_two_images_in_three_lines(changes):
    result = match_images(A, B, **changes)
    assert result.trusted
    assert len(result.matches) > 250
    assert result.focal_sources == ("EXIF", "EXIF")
    rotation, translation = pose_error_deg(result.cam1_from_cam0, ground_truth())
    assert rotation < 1.0
    assert translation < 5.0


def test_a_networks_matches_are_aligned_in_the_images():
    aligned, as_matched = (match_images(A, B, weights="compact", resize=640, no_align=off) for off in (False, True))
    assert len(aligned.matches) == len(as_matched.matches)
    assert aligned.num_aligned > 0.5 * as_matched.num_inliers
    assert as_matched.num_aligned is None
    assert aligned.epipolar_px < 0.7 * as_matched.epipolar_px
    of_aligned, of_others = (max(pose_error_deg(r.cam1_from_cam0, ground_truth())) for r in (aligned, as_matched))
    assert of_aligned < of_others
    assert "each patch of A found in B" in result_text(aligned)
    assert result_dict(aligned)["aligned"] == aligned.num_aligned
    assert match_images(A, B, matcher="sift").num_aligned is None


def test_a_image_that_is_upside_down_is_rotated(tmp_path):
    rotated = tmp_path / "turned.png"
    Image.open(B).transpose(Image.Transpose.ROTATE_180).save(rotated)
    focal = read_images(A, B, TwoImageOptions())[0].camera.params[0]
    known = f"{focal},320,240,0"
    result = match_images(A, rotated, weights="compact", intrinsics=known, resize=480)
    assert result.image_rotation == 2
    assert result.focal_sources == ("given", "given")
    half = np.diag([-1.0, -1.0, 1.0])
    rotation, translation = pose_error_deg(half @ result.cam1_from_cam0, ground_truth())
    assert rotation < 1.5
    assert translation < 8.0
    assert "B rotated by 180°" in result_text(result)
    off = match_images(A, rotated, weights="compact", intrinsics=known, turns="off", resize=320)
    assert off.image_rotation == 0
    assert off.num_inliers < 0.2 * result.num_inliers


def test_intrinsics_of_two_cameras(tmp_path):
    small = tmp_path / "small.jpg"
    Image.open(B).resize((320, 240)).save(small)
    images = read_images(A, small, TwoImageOptions(intrinsics="500,320,240,0", intrinsics_b="250,160,120,0.1"))
    assert [focal_px(image) for image in images] == [500, 250]
    images = read_images(A, small, TwoImageOptions(intrinsics_b="250,160,120,0.1"))
    assert focal_px(images[0]) == pytest.approx(517.68, abs=0.01)
    with pytest.raises(BadOption, match=r"small\.jpg is 320x240; give those of B with --intrinsics-b"):
        read_images(A, small, TwoImageOptions(intrinsics="500,320,240,0"))
    with pytest.raises(BadOption, match="--intrinsics 5: 1 numbers"):
        read_images(A, B, TwoImageOptions(intrinsics="5"))


def test_bad_images_are_named(tmp_path):
    copy, text, empty = tmp_path / "copy.jpg", tmp_path / "text.jpg", tmp_path / "empty.png"
    shutil.copy(A, copy)
    text.write_text("hello")
    empty.touch()
    for b, kind, word in (
        (A, BadOption, "same file"),
        (copy, BadOption, "copy of"),
        (text, BadImage, "not a JPEG"),
        (empty, BadImage, "empty"),
        (tmp_path, BadImage, "is a folder"),
        (tmp_path / "absent.jpg", BadImage, "No such file"),
    ):
        with pytest.raises(kind, match=word) as caught:
            read_images(A, b, TwoImageOptions())
        assert str(caught.value).startswith(str(b))
        assert "\n" not in str(caught.value)


def test_images_without_texture_have_no_geometry(tmp_path):
    paths = []
    for i, (size, value) in enumerate((((64, 48), 128), ((17, 16), 130))):
        paths.append(tmp_path / f"{i}.png")
        Image.new("L", size, value).save(paths[-1])
    for matcher in ("loftr", "sift"):
        result = match_images(*paths, matcher=matcher, weights="compact")
        assert result.F is None
        assert result.cam1_from_cam0 is None
        assert result.num_inliers == 0
        assert len(result.remarks) == 1


def test_one_matcher_serves_many_pairs(monkeypatch):
    class Nothing:
        name, rotation_invariant, provenance = "nothing", True, {"matcher": "nothing"}
        traits = MatcherTraits()

        def grid(self, width, height):
            return None

        def encode(self, images, masks=None):
            return [image.shape for image in images]

        def match(self, pairs):
            assert pairs == [((480, 640), (480, 640))]
            return [Matches.empty()]

    options = TwoImageOptions()
    result = match_records(read_images(A, B, options), Nothing(), options)
    assert result.matcher == {"matcher": "nothing"}
    assert len(result.matches) == 0


def test_of_two_images_that_hardly_match_the_best_matches_count():
    sure, more = (match_images(A, C, weights="compact", resize=320, at_least=n) for n in (0, 400))
    assert sure.matches.confidence.min() >= 0.4
    assert len(sure.matches) < 400
    assert len(more.matches) == 400
    assert more.num_inliers > sure.num_inliers


def test_two_images_are_matched_by_the_weights_for_wide_baselines():
    assert make_matcher(TwoImageOptions(device="cpu")).name == "loftr-compact-wide"
    assert make_matcher(MatchingOptions(device="cpu")).name == "loftr-compact"


def test_defaults_of_confidence():
    assert TwoImageOptions().confidence == PairEvaluation().matching.confidence == 0.4
    assert MatchingOptions().confidence is None
    sift = [make_matcher(TwoImageOptions(matcher="sift", confidence=c)) for c in (0.4, None)]
    assert sift[0].provenance == sift[1].provenance  # it does not apply
    with pytest.raises(BadOption, match="--confidence 2"):
        TwoImageOptions(confidence=2.0)
    assert MatchOptions().figures.pixel() is None
