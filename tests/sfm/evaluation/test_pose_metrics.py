"""Metrics against cases worked out by hand, and against plain scalar code written from the definitions."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from sfm.evaluation.model import auc
from sfm.evaluation.pose_metrics import (
    ROTATION_THRESHOLDS_DEG,
    TRANSLATION_THRESHOLDS_M,
    accuracies,
    challenge_errors,
    epipolar_errors,
    mean_average_accuracy,
    pose_errors_deg,
    poses_of_fundamental,
)
from sfm.geometry.epipolar import fundamental_matrix

K0 = np.array([[900.0, 0, 500], [0, 910, 340], [0, 0, 1]])
K1 = np.array([[700.0, 0, 410], [0, 690, 300], [0, 0, 1]])


def pose(angle_deg: float, translation: tuple[float, float, float], axis=(0.0, 1.0, 0.0)) -> np.ndarray:
    rotation, _ = cv2.Rodrigues(np.radians(angle_deg) * np.array(axis))
    return np.column_stack([rotation, translation])


GROUND_TRUTH = pose(20, (-2.0, 0.3, 0.4))


# Degrees


def test_exact_pose_has_no_error() -> None:
    assert pose_errors_deg(GROUND_TRUTH, GROUND_TRUTH) == pytest.approx((0, 0), abs=1e-6)


def test_known_rotation_and_direction_errors() -> None:
    rotated = pose(26.5, (-2.0, 0.3, 0.4))
    assert pose_errors_deg(rotated, GROUND_TRUTH) == pytest.approx((6.5, 0), abs=1e-6)
    sideways = np.column_stack([GROUND_TRUTH[:, :3], pose(7, (0, 0, 0), axis=(0, 0, 1))[:, :3] @ (-2.0, 0, 0)])
    assert pose_errors_deg(sideways, pose(20, (-9.0, 0, 0))) == pytest.approx((0, 7), abs=1e-6)


def test_direction_has_no_sign_and_no_length() -> None:
    assert pose_errors_deg(GROUND_TRUTH * [1, 1, 1, -5], GROUND_TRUTH) == pytest.approx((0, 0), abs=1e-6)


def test_no_baseline() -> None:
    still = pose(20, (0, 0, 0))
    assert pose_errors_deg(GROUND_TRUTH, still) == pytest.approx((0, 0), abs=1e-6)
    assert pose_errors_deg(still, GROUND_TRUTH)[1] == 90


def test_no_pose_is_infinitely_wrong() -> None:
    assert pose_errors_deg(None, GROUND_TRUTH) == (math.inf, math.inf)
    assert auc([0.0, math.inf], 5) == pytest.approx(0.5)


def loftr_style_auc(errors: list[float], threshold: float) -> float:
    """Step by step as in SuperGlue's and LoFTR's evaluation: trapezoids under (error, recall), cut at the threshold."""
    ordered = [0.0, *sorted(errors)]
    recall = [i / len(errors) for i in range(len(errors) + 1)]
    last = int(np.searchsorted(ordered, threshold))
    xs, ys = [*ordered[:last], threshold], [*recall[:last], recall[last - 1]]
    area = sum((x1 - x0) * (y0 + y1) / 2 for x0, x1, y0, y1 in zip(xs, xs[1:], ys, ys[1:], strict=False))
    return area / threshold


@pytest.mark.parametrize("threshold", [5.0, 10.0, 20.0])
def test_auc_is_that_of_the_literature(threshold: float) -> None:
    random = np.random.default_rng(3)
    errors = [*random.exponential(8, 60).tolist(), *[math.inf] * 7]
    assert auc(errors, threshold) == pytest.approx(loftr_style_auc(errors, threshold), abs=1e-12)


def test_epipolar_errors_are_distances_to_lines() -> None:
    xyz = np.random.default_rng(0).uniform((-1, -1, 4), (1, 1, 7), (50, 3))
    in_1 = xyz @ GROUND_TRUTH[:, :3].T + GROUND_TRUTH[:, 3]
    xy0, xy1 = xyz[:, :2] / xyz[:, 2:], in_1[:, :2] / in_1[:, 2:]
    for distances in epipolar_errors(xy0, xy1, GROUND_TRUTH):
        np.testing.assert_allclose(distances, 0, atol=1e-12)
    shifted = xy1 + np.array([0, 0.01])
    for image, distances in enumerate(epipolar_errors(xy0, shifted, GROUND_TRUTH)):
        points, others = ((xy0, shifted), (shifted, xy0))[image]
        F = fundamental_matrix(np.eye(3), np.eye(3), GROUND_TRUTH)
        lines = cv2.computeCorrespondEpilines(others[:, None], 2 - image, F)[:, 0]
        expected = np.abs(np.einsum("mi,mi->m", lines, np.column_stack([points, np.ones(50)])))
        np.testing.assert_allclose(distances, expected, rtol=1e-9)  # OpenCV's lines have unit normals


# The challenge


def plain_errors(F: np.ndarray, ground_truth: np.ndarray, scale: float) -> tuple[float, float]:
    """The challenge's errors by OpenCV's decomposition and quaternions."""
    R_a, R_b, t = cv2.decomposeEssentialMat(K1.T @ F @ K0)

    def quaternion(R: np.ndarray) -> np.ndarray:
        axis = cv2.Rodrigues(R)[0].ravel()
        half = np.linalg.norm(axis) / 2
        return np.array([math.cos(half), *(math.sin(half) * axis / (2 * half + 1e-300))])

    def degrees(R: np.ndarray) -> float:
        loss = max(1e-15, 1 - float(quaternion(R) @ quaternion(ground_truth[:, :3])) ** 2)
        return math.degrees(math.acos(1 - 2 * loss))

    true_t = ground_truth[:, 3] * scale
    t = t.ravel() / np.linalg.norm(t) * np.linalg.norm(true_t)
    return min(degrees(R_a), degrees(R_b)), min(np.linalg.norm(true_t - t), np.linalg.norm(true_t + t))


def plain_maa(errors: list[tuple[float, float]]) -> float:
    total = 0.0
    for step in range(10):
        degrees, metres = 1.0 + step, 0.2 * 25 ** (step / 9)
        total += sum(q < degrees and t < metres for q, t in errors) / len(errors)
    return total / 10


def test_thresholds() -> None:
    assert ROTATION_THRESHOLDS_DEG.tolist() == list(range(1, 11))
    assert TRANSLATION_THRESHOLDS_M[[0, -1]] == pytest.approx([0.2, 5])
    np.testing.assert_allclose(TRANSLATION_THRESHOLDS_M[1:] / TRANSLATION_THRESHOLDS_M[:-1], 25 ** (1 / 9))


def test_fundamental_matrix_gives_its_pose() -> None:
    R_a, R_b, direction = poses_of_fundamental(fundamental_matrix(K0, K1, GROUND_TRUTH) * -3e4, K0, K1)
    for R in (R_a, R_b):
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)
    assert min(np.abs(R - GROUND_TRUTH[:, :3]).max() for R in (R_a, R_b)) < 1e-9
    assert abs(direction @ GROUND_TRUTH[:, 3]) == pytest.approx(np.linalg.norm(GROUND_TRUTH[:, 3]))


def test_exact_matrix_scores_one() -> None:
    errors = challenge_errors(fundamental_matrix(K0, K1, GROUND_TRUTH), K0, K1, GROUND_TRUTH, 10.0)
    assert errors == pytest.approx((0, 0), abs=1e-6)
    assert mean_average_accuracy(*zip(errors, strict=True)) == 1.0


def test_rotation_error_of_five_and_a_half_degrees_scores_a_half() -> None:
    wrong = np.column_stack([pose(5.5, (0, 0, 0))[:, :3] @ GROUND_TRUTH[:, :3], GROUND_TRUTH[:, 3]])
    rotation, translation = challenge_errors(fundamental_matrix(K0, K1, wrong), K0, K1, GROUND_TRUTH, 1.0)
    assert (rotation, translation) == pytest.approx((5.5, 0), abs=1e-6)
    assert mean_average_accuracy([rotation], [translation]) == 0.5  # right at 6, 7, 8, 9 and 10 degrees


def test_translation_error_in_metres() -> None:
    """A direction 30 degrees off over a baseline of 2 units of 1.5 m: a chord of 2 * 3 m * sin(15 degrees)."""
    ground_truth = pose(20, (-2.0, 0, 0))
    wrong = np.column_stack([ground_truth[:, :3], pose(30, (0, 0, 0), axis=(0, 0, 1))[:, :3] @ ground_truth[:, 3]])
    rotation, translation = challenge_errors(fundamental_matrix(K0, K1, wrong), K0, K1, ground_truth, 1.5)
    assert rotation == pytest.approx(0, abs=1e-6)
    assert translation == pytest.approx(6 * math.sin(math.radians(15)))  # 1.553 m
    # thresholds: 0.2 0.286 0.409 0.585 0.836 1.196 1.710 2.445 3.497 5
    assert mean_average_accuracy([rotation], [translation]) == pytest.approx(0.4)


def test_sign_of_the_translation_does_not_count() -> None:
    flipped = GROUND_TRUTH * [1, 1, 1, -1]
    assert challenge_errors(fundamental_matrix(K0, K1, flipped), K0, K1, GROUND_TRUTH, 1.0)[1] == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("F", [None, np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_without_an_estimate_a_pair_is_wrong(F) -> None:
    errors = challenge_errors(F, K0, K1, GROUND_TRUTH, 1.0)
    assert errors == (math.inf, math.inf)
    assert mean_average_accuracy([0.0, errors[0]], [0.0, errors[1]]) == 0.5


def test_both_errors_must_be_below_their_thresholds() -> None:
    assert accuracies([0.5, 9.5, 0.5], [4.9, 0.1, 0.1]).tolist() == pytest.approx([1 / 3] * 9 + [1.0])
    assert mean_average_accuracy([], []) == 0.0


def test_agrees_with_plain_code_on_random_matrices() -> None:
    random = np.random.default_rng(7)
    ours, plain = [], []
    for _ in range(40):
        noisy = np.column_stack(
            [
                pose(random.normal(0, 4), (0, 0, 0), axis=(0.6, 0.0, 0.8))[:, :3] @ GROUND_TRUTH[:, :3],
                GROUND_TRUTH[:, 3],
            ]
        )
        noisy[:, 3] += random.normal(0, 0.3, 3)
        F = fundamental_matrix(K0, K1, noisy) + random.normal(0, 1e-9, (3, 3))
        ours.append(challenge_errors(F, K0, K1, GROUND_TRUTH, 2.5))
        plain.append(plain_errors(F, GROUND_TRUTH, 2.5))
    np.testing.assert_allclose(ours, plain, atol=1e-5)
    assert 0.2 < plain_maa(plain) < 0.9
    assert mean_average_accuracy(*zip(*ours, strict=True)) == pytest.approx(plain_maa(plain))
