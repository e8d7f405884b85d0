"""The two-view benchmark on matches whose errors are known."""

import json
from dataclasses import replace

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from benchmarks.two_view import (  # noqa: E402
    PosedPair,
    View,
    epipolar_distances_px,
    evaluate_matcher,
    pairs_of,
    pose_error_deg,
)
from benchmarks.two_view_table import Row, as_json, by_rotation, markdown, summarise  # noqa: E402

K = np.array([[900.0, 0, 500], [0, 910, 340], [0, 0, 1]])


def pose(angle_deg: float, centre: tuple[float, float, float]) -> np.ndarray:
    rotation, _ = cv2.Rodrigues(np.radians(angle_deg) * np.array([0.0, 1.0, 0.0]))
    return np.column_stack([rotation, -rotation @ np.array(centre)])


def view(name: str, cam_from_world: np.ndarray) -> View:
    return View("room", name, np.zeros((680, 1000), np.uint8), K, cam_from_world)


def project(seen_by: View, xyz: np.ndarray) -> np.ndarray:
    local = xyz @ seen_by.cam_from_world[:, :3].T + seen_by.cam_from_world[:, 3]
    return (local[:, :2] / local[:, 2:]) @ K[:2, :2].T + K[:2, 2]


@pytest.fixture
def pair() -> PosedPair:
    return pairs_of([view("a.jpg", pose(0, (0, 0, 0))), view("b.jpg", pose(-20, (2, 0.1, 0)))], 60)[0]


def exact(view0: View, view1: View) -> tuple[np.ndarray, np.ndarray]:
    xyz = np.random.default_rng(0).uniform((-1, -1.5, 4), (2, 1.5, 8), (300, 3))
    return project(view0, xyz), project(view1, xyz)


def test_pairs_are_bounded_by_rotation(pair: PosedPair) -> None:
    assert pair.rotation_deg == pytest.approx(20)
    assert pairs_of([pair.view0, pair.view1], 19.9) == []


def test_exact_matches_have_no_error(pair: PosedPair) -> None:
    row = evaluate_matcher(exact, [pair])[0]
    assert len(row.errors_deg) == 5
    assert max(row.errors_deg) < 0.01
    assert (row.matches, row.under_1px, row.inliers) == (300, 1.0, 300.0)


def test_false_matches_are_outvoted_and_counted(pair: PosedPair) -> None:
    def half_wrong(view0: View, view1: View) -> tuple[np.ndarray, np.ndarray]:
        points0, points1 = exact(view0, view1)
        points1[150:] = np.random.default_rng(1).uniform((0, 0), (1000, 680), (150, 2))
        return points0, points1

    row = evaluate_matcher(half_wrong, [pair])[0]
    assert max(row.errors_deg) < 0.5
    assert 0.5 <= row.under_1px < 0.53
    assert 150 <= row.inliers < 165


def test_too_few_matches_are_infinitely_wrong(pair: PosedPair) -> None:
    row = evaluate_matcher(lambda a, b: tuple(xy[:4] for xy in exact(a, b)), [pair])[0]  # type: ignore[arg-type,return-value]
    assert row.errors_deg == (np.inf,) * 5
    none = evaluate_matcher(lambda a, b: (np.zeros((0, 2)), np.zeros((0, 2))), [pair])[0]
    assert (none.matches, none.under_1px) == (0, 0.0)
    assert summarise([row])["auc20"] == 0


def test_epipolar_distance_is_in_pixels_of_the_640_px_scale(pair: PosedPair) -> None:
    points0, points1 = exact(pair.view0, pair.view1)
    assert epipolar_distances_px(pair, points0, points1).max() < 1e-6
    shifted = epipolar_distances_px(pair, points0, points1 + np.array([0, 5.0]))  # lines are nearly level
    assert np.median(shifted) == pytest.approx(5 * 640 / 1000, rel=0.15)


def test_two_views_do_not_tell_the_sign_of_the_baseline(pair: PosedPair) -> None:
    ground_truth = pose(-20, (2, 0.1, 0))
    assert pose_error_deg(pair, ground_truth * [1, 1, 1, -3]) == pytest.approx(0, abs=1e-6)
    assert pose_error_deg(pair, pose(-13, (2, 0.1, 0))) == pytest.approx(7, abs=1e-6)
    assert pose_error_deg(pair, None) == np.inf


def test_reduced_pixels_return_to_the_image(pair: PosedPair) -> None:
    height, width = pair.view0.reduced.shape
    assert (width, height) == (640, 435)
    corners = pair.view0.from_reduced(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    np.testing.assert_allclose(corners, [[0, 0], [1000, 680]])


def test_summaries_average_the_seeds_and_split_by_rotation() -> None:
    row = Row("room", "a", "b", 10.0, (0.0, np.inf), 100, 80.0, 0.5, 0.9, 0.1)
    far = replace(row, rotation_deg=40.0, errors_deg=(0.0, 0.0))
    assert summarise([row])["auc5"] == pytest.approx(50)
    assert summarise([row])["auc5_spread"] == pytest.approx(50)
    bins = by_rotation([row, far, far])
    assert {name: s["pairs"] for name, s in bins.items()} == {"0-15": 1, "30-60": 2}
    assert bins["30-60"]["auc5"] == 100
    table = markdown("strecha", {"ours": [row, far]})
    assert "| ours | 75.0 / 75.0 / 75.0 |" in table
    json.dumps(as_json({"strecha": {"ours": [row]}}), allow_nan=False)
