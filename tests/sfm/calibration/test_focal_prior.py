"""EXIF against the images: held where they say little, doubted where they determine another focal length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.calibration import focal_prior as P
from sfm.mapping import stage as mapping
from sfm.mapping.inputs import MappingInput
from sfm.options import MappingOptions, RefinementOptions
from sfm.quality.checks import Evidence, warnings
from sfm.refinement.rounds import Refiner, calibrate, focal_evidence, with_weak_cameras
from sfm.types import CameraPrior
from tests.support.degenerate_scenes import arc, input_of, plane, pose, room
from tests.support.mapping_scene import FOCAL, HEIGHT, OPTIONS, WIDTH


def with_exif(data: MappingInput, focal: float) -> MappingInput:
    camera = CameraPrior("SIMPLE_RADIAL", np.array([focal, WIDTH / 2, HEIGHT / 2, 0.0]), True, "one")
    return replace(data, images=tuple(replace(r, camera=camera) for r in data.images))


def refiner(data: MappingInput) -> Refiner:
    def no_pixels(name: str) -> np.ndarray:
        raise AssertionError(name)

    return Refiner(data, RefinementOptions(), MappingOptions(threads=1), no_pixels)


@pytest.fixture(scope="module")
def around() -> MappingInput:
    return input_of([(arc(), room())], focal_prior=True)


@pytest.fixture(scope="module")
def tilted_nadir() -> MappingInput:
    """A plane from the front, hardly tilted, with a smooth error over each image as a rolling shutter makes."""
    rng = np.random.default_rng(4)
    poses = [pose(rng.uniform(-3, 3, 2), np.array([0.7 * (i % 5) - 1.4, 0.8 * (i // 5) - 0.4, 0.0])) for i in range(10)]
    data = input_of([(poses, plane())], focal_prior=True)
    keypoints = []
    for own in data.keypoints:
        xy = (np.asarray(own.xy, np.float64) - [WIDTH / 2, HEIGHT / 2]) / WIDTH
        bend = np.stack([xy[:, 0] ** 2, xy[:, 0] * xy[:, 1]], 1) * rng.normal(0, 6, 2)
        keypoints.append(replace(own, xy=(own.xy + bend).astype(np.float32)))
    return replace(data, keypoints=tuple(keypoints))


@pytest.mark.parametrize("ratio", [3.75, 0.4, 1.5])
def test_false_exif_is_doubted_and_the_model_is_good(around, ratio, tmp_path):
    """120 mm written and 32 true, and the like."""
    data = with_exif(around, ratio * FOCAL)
    model = mapping.reconstruct(data, OPTIONS, tmp_path).models[0]
    assert model.cameras[1].mean_focal_length() == pytest.approx(FOCAL, rel=0.02)
    (evidence,) = focal_evidence(refiner(data), model)
    assert evidence.is_false
    assert not evidence.is_weak
    assert evidence.found == pytest.approx(FOCAL, rel=0.02)
    assert evidence.deviation < 0.03
    assert str(evidence).startswith(f"EXIF is doubted: camera 1: EXIF says {ratio * FOCAL:.0f} px")
    assert warnings(Evidence(model, model, (), data)) == ()
    assert with_weak_cameras(refiner(data), model)[1] is model


def test_exif_that_is_nearly_right_is_not_mentioned(around, tmp_path):
    data = with_exif(around, 1.04 * FOCAL)
    model = mapping.reconstruct(data, OPTIONS, tmp_path).models[0]
    (evidence,) = focal_evidence(refiner(data), model)
    assert not evidence.is_false
    assert not evidence.is_weak
    assert model.cameras[1].mean_focal_length() == pytest.approx(FOCAL, rel=0.01)


@pytest.mark.parametrize("ratio", [0.95, 1.0, 1.05])
def test_exif_holds_where_a_plane_from_the_front_says_little(tilted_nadir, ratio, tmp_path):
    data = with_exif(tilted_nadir, ratio * FOCAL)
    model = mapping.reconstruct(data, OPTIONS, tmp_path).models[0]
    own, held = with_weak_cameras(refiner(data), model)
    (evidence,) = own.weak
    assert evidence.deviation > P.WEAK
    assert "EXIF's more than the images'" in str(evidence)
    focal = held.cameras[1].mean_focal_length()
    assert abs(np.log(focal / (ratio * FOCAL))) < abs(np.log(evidence.found / (ratio * FOCAL))) + 1e-9
    assert focal == pytest.approx(ratio * FOCAL, rel=2.5 * P.EXIF_SD)
    assert own.freedom(held).fixed_cameras == {1}
    final, reports = calibrate(own, own.start(held))
    assert final.cameras[1].model_name == "SIMPLE_RADIAL"  # no further parameters on the strength of the same data
    assert "f " in reports[0]
    assert "the images hardly determine the focal length" in reports[0]
    deviation = float(reports[0].split("±")[1].split()[0].rstrip(","))
    assert abs(final.cameras[1].mean_focal_length() - FOCAL) < 3 * deviation < 3 * 1.1 * P.EXIF_SD * FOCAL


def test_the_model_itself_stays_as_it_is(tilted_nadir, tmp_path):
    data = with_exif(tilted_nadir, FOCAL)
    model = mapping.reconstruct(data, OPTIONS, tmp_path).models[0]
    before = [float(p) for p in model.cameras[1].params]
    with_weak_cameras(refiner(data), model)
    assert [float(p) for p in model.cameras[1].params] == before


def test_too_few_images_leave_exif(around, tmp_path):
    data = with_exif(around, FOCAL)
    model = mapping.reconstruct(data, OPTIONS, tmp_path).models[0]
    pair = pycolmap.Reconstruction(model)
    for image_id in sorted(pair.reg_image_ids())[2:]:
        pair.deregister_frame(pair.image(image_id).frame_id)
    evidence = P.focal_evidence(pair, 1, FOCAL)
    assert evidence.deviation == np.inf
    assert evidence.is_weak
    assert not evidence.is_false
    assert P.most_probable(pair, evidence)[0].mean_focal_length() == FOCAL


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_model_that_has_lost_its_points_leaves_exif(around, tmp_path, left):
    """Evidence is from before refinement, which rejects observations."""
    data = with_exif(around, FOCAL)
    model = mapping.reconstruct(data, OPTIONS, tmp_path).models[0]
    (evidence,) = focal_evidence(refiner(data), model)
    assert np.isfinite(evidence.deviation)
    for point_id in [*model.points3D][left:]:
        model.delete_point3D(point_id)
    camera, report = P.most_probable(model, replace(evidence, prior=0.9 * FOCAL))
    assert camera.mean_focal_length() == pytest.approx(0.9 * FOCAL)
    assert "the images hardly determine the focal length" in str(report)


def test_odds_are_of_a_false_entry():
    assert P.log_odds_of_false(1000, 1000, 0.01) < -P.RIGHT
    assert P.log_odds_of_false(3446, 919, 0.02) > 50
    assert P.log_odds_of_false(1000, 1300, 0.3) < 0  # the images do not know
    assert P.log_odds_of_false(1000, 1300, 0.01) == pytest.approx(P.log_odds_of_false(1300, 1000, 0.01))
