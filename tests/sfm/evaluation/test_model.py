"""Evaluation against cases worked out by hand, pycolmap, and the independent tool in shared/tools."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pycolmap
import pytest

from sfm.colmap.model_reader import model_folders
from sfm.errors import BadFile
from sfm.evaluation.model import (
    align,
    auc,
    camera_poses,
    centre_errors,
    evaluate,
    evaluate_folder,
    evaluation_dict,
    evaluation_text,
    extent,
    fit_similarity,
    model_statistics,
    pose_errors,
    read_model,
    report,
    some_names,
)
from tests.support.folders import SHARED


def synthetic(num_images: int = 8, *, seed: int = 0) -> pycolmap.Reconstruction:
    """A model with exact poses, points and observations."""
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = num_images, 1, 1
    options.num_points3D = 40
    return pycolmap.synthesize_dataset(options)


def estimate_of(
    ground_truth: pycolmap.Reconstruction, *, without: int = 0, rotation_deg: float = 0.5, shift: float = 0.02
) -> pycolmap.Reconstruction:
    """The model with noise in its poses, points and observations, in another frame, some images unregistered."""
    model = pycolmap.Reconstruction(ground_truth)
    noise = pycolmap.SyntheticNoiseOptions()
    noise.rig_from_world_rotation_stddev, noise.rig_from_world_translation_stddev = rotation_deg, shift
    noise.point2D_stddev, noise.point3D_stddev = 0.5, 0.01
    pycolmap.synthesize_noise(noise, model)
    for frame_id in sorted(model.reg_frame_ids())[:without]:
        model.deregister_frame(frame_id)
    model.transform(pycolmap.Sim3d(3.0, pycolmap.Rotation3d(np.array([0.1, 0.7, -0.2])), np.array([5.0, -1.0, 2.0])))
    return model


def written(model: pycolmap.Reconstruction, folder: Path) -> Path:
    folder.mkdir(parents=True)
    model.write(str(folder))
    return folder


def pose(rotation: np.ndarray, centre: tuple[float, float, float]) -> np.ndarray:
    return np.column_stack([rotation, -rotation @ np.array(centre)])


def rotation_z(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


# AUC


@pytest.mark.parametrize(
    ("errors", "threshold", "expected"),
    [
        ([], 5, 0.0),
        ([0.0, 0.0], 5, 1.0),
        ([math.inf, math.inf], 5, 0.0),
        ([5.0], 5, 0.0),  # an error at the threshold is not below it
        ([2.0], 4, (2 * 1 / 2 + 2 * 1) / 4),
        ([1.0, math.inf], 2, (1 * 0.5 / 2 + 1 * 0.5) / 2),
        ([3.0, 1.0], 4, (1 * 0.5 / 2 + 2 * 0.75 + 1 * 1.0) / 4),
    ],
)
def test_auc_by_hand(errors: list[float], threshold: float, expected: float) -> None:
    assert auc(errors, threshold) == pytest.approx(expected, abs=1e-15)


def test_auc_grows_with_the_threshold_and_falls_with_an_error() -> None:
    errors = np.random.default_rng(0).exponential(3, 50)
    areas = [auc(errors, threshold) for threshold in (1, 3, 5, 10, 180)]
    assert areas == sorted(areas)
    worse = errors.copy()
    worse[7] += 2
    assert auc(worse, 5) < auc(errors, 5) or errors[7] >= 5


# Pose errors


def test_pose_errors_by_hand() -> None:
    eye = np.eye(3)
    ground_truth = {"a": pose(eye, (0, 0, 0)), "b": pose(eye, (1, 0, 0)), "c": pose(eye, (0, 1, 0))}
    poses = {"a": ground_truth["a"], "b": pose(rotation_z(10), (2, 0, 0))}  # rotated by 10 degrees, on the true line
    errors = pose_errors(poses, ground_truth)
    # The direction of cam_b_from_cam_a's translation lies in b's frame and turns with it.
    np.testing.assert_allclose(errors.rotation_deg, [10, np.inf, np.inf], atol=1e-9)
    np.testing.assert_allclose(errors.translation_deg, [10, np.inf, np.inf], atol=1e-9)


def test_a_baseline_that_points_backwards_is_wrong_by_180_degrees() -> None:
    ground_truth = {"a": pose(np.eye(3), (0, 0, 0)), "b": pose(np.eye(3), (1, 0, 0))}
    poses = {"a": ground_truth["a"], "b": pose(np.eye(3), (-1, 0, 0))}
    errors = pose_errors(poses, ground_truth)
    assert errors.rotation_deg[0] == pytest.approx(0, abs=1e-9)
    assert errors.translation_deg[0] == pytest.approx(180)


def test_no_direction_is_asked_for_where_the_ground_truth_has_no_baseline() -> None:
    eye = np.eye(3)
    ground_truth = {"a": pose(eye, (0, 0, 0)), "b": pose(eye, (0, 0, 0)), "c": pose(eye, (1, 0, 0))}
    poses = ground_truth | {"b": pose(rotation_z(3), (0, 0, 1e-3))}
    errors = pose_errors(poses, ground_truth)  # pairs ab, ac, bc
    assert errors.max_deg[0] == pytest.approx(3)
    assert errors.translation_deg[0] == 0
    assert errors.max_deg[1] == pytest.approx(0, abs=1e-9)


def test_an_estimate_without_a_baseline_points_nowhere() -> None:
    ground_truth = {"a": pose(np.eye(3), (0, 0, 0)), "b": pose(np.eye(3), (1, 0, 0))}
    errors = pose_errors({"a": ground_truth["a"], "b": ground_truth["a"]}, ground_truth)
    assert errors.translation_deg[0] == 180


def test_errors_do_not_depend_on_the_frame_of_the_estimate() -> None:
    ground_truth = synthetic()
    moved = pycolmap.Reconstruction(ground_truth)
    moved.transform(pycolmap.Sim3d(7.0, pycolmap.Rotation3d(np.array([1.0, 0.2, 0.3])), np.array([1.0, 2.0, 3.0])))
    errors = pose_errors(camera_poses(moved), camera_poses(ground_truth))
    assert len(errors.max_deg) == 8 * 7 // 2
    assert errors.max_deg.max() < 1e-6


# Alignment


def test_similarity_is_recovered_exactly() -> None:
    rng = np.random.default_rng(1)
    source = rng.normal(size=(6, 3))
    rotation = pycolmap.Rotation3d(np.array([0.3, -1.0, 0.5])).matrix()
    target = 2.5 * source @ rotation.T + [1.0, -2.0, 3.0]
    found = fit_similarity(source, target)
    assert found is not None
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(found(source), target, atol=1e-12)


def test_similarity_never_mirrors() -> None:
    source = np.random.default_rng(2).normal(size=(6, 3))
    found = fit_similarity(source, source * [1, 1, -1])
    assert found is not None
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(3)
    source, target = rng.normal(size=(2, 7, 3))
    found = fit_similarity(source, target)
    assert found is not None
    least = ((found(source) - target) ** 2).sum()
    for step in rng.normal(scale=1e-3, size=(20, 3)):
        rotated = pycolmap.Rotation3d(step).matrix() @ found.rotation
        other = (found.scale + step[0]) * source @ rotated.T + found.translation + step
        assert ((other - target) ** 2).sum() > least


def test_similarity_is_undetermined_for_two_points_and_on_a_line() -> None:
    line = np.outer([0.0, 1.0, 2.0, 5.0], [1.0, 2.0, 3.0])
    assert fit_similarity(line[:2], line[:2]) is None
    assert fit_similarity(line, line) is None
    assert fit_similarity(np.zeros((4, 3)), np.zeros((4, 3))) is None


def test_a_transformed_pose_sees_the_transformed_points() -> None:
    ground_truth, points = camera_poses(synthetic()), np.random.default_rng(4).normal(size=(5, 3))
    rotation = pycolmap.Rotation3d(np.array([0.3, -1.0, 0.5])).matrix()
    moved = {
        n: pose(p[:, :3] @ rotation.T, tuple(4 * rotation @ (-p[:, :3].T @ p[:, 3]))) for n, p in ground_truth.items()
    }
    aligned = align(ground_truth, moved)
    assert aligned is not None
    similarity, distances, names = aligned
    assert distances.max() < 1e-9
    for name in names:
        before = ground_truth[name][:, :3] @ points.T + ground_truth[name][:, 3:]
        after_pose = similarity.transform_pose(ground_truth[name])
        after = after_pose[:, :3] @ similarity(points).T + after_pose[:, 3:]
        np.testing.assert_allclose(after, similarity.scale * before, atol=1e-9)


def test_centre_errors_name_the_worst_image() -> None:
    ground_truth = camera_poses(synthetic())
    name = sorted(ground_truth)[3]
    moved = ground_truth[name].copy()
    moved[:, 3] += 1.0
    found = centre_errors(ground_truth | {name: moved}, ground_truth)
    assert found is not None
    assert found.worst_image == name
    assert 0.1 < found.max < np.sqrt(3)


def test_extent_is_the_largest_distance() -> None:
    assert extent(np.array([[0, 0, 0], [3, 4, 0], [1, 1, 1.0]])) == pytest.approx(5)
    assert extent(np.zeros((1, 3))) == extent(np.zeros((0, 3))) == 0


# Models on disk


def test_a_run_sub_models_and_a_model_are_found(tmp_path: Path) -> None:
    small, large = synthetic(3), synthetic(6)
    written(small, tmp_path / "out" / "sparse" / "0")
    folder = written(large, tmp_path / "out" / "sparse" / "1")
    for path in (tmp_path / "out", tmp_path / "out" / "sparse", folder):
        assert read_model(path).num_reg_images() == 6
    assert [f.name for f in model_folders(tmp_path / "out")] == ["0", "1"]
    assert model_folders(folder) == (folder,)


def test_of_sub_models_the_one_with_most_known_images_counts(tmp_path: Path) -> None:
    written(synthetic(3), tmp_path / "0")
    written(synthetic(6), tmp_path / "1")
    only_small = dict(list(camera_poses(synthetic(3)).items())[:1])
    assert read_model(tmp_path, only_small).num_reg_images() == 3  # both know it: the first
    assert read_model(tmp_path, camera_poses(synthetic(6))).num_reg_images() == 6


def test_each_model_and_ground_truth_has_a_result_of_its_own(tmp_path: Path) -> None:
    gt, out = written(synthetic(5), tmp_path / "gt"), tmp_path / "evaluation"
    first = written(synthetic(5), tmp_path / "a" / "sparse" / "0")
    second = written(synthetic(4), tmp_path / "b" / "sparse" / "0")
    third = written(synthetic(3), tmp_path / "c" / "b" / "sparse" / "0")
    for model in (first, second, third, second):  # the same again takes the place of what it wrote before
        assert f"written: {out}" in report(model, gt, out)
    found = {path.name: json.loads(path.read_text()) for path in out.iterdir()}
    assert {name: (own["model"], own["registered"]) for name, own in found.items()} == {
        "model_a_sparse_0.json": (str(first), 5),
        "model_b_sparse_0.json": (str(second), 4),
        "model_b_sparse_0_2.json": (str(third), 3),
    }


def test_errors_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"gone: no such folder"):
        read_model(tmp_path / "gone")
    with pytest.raises(BadFile, match=r"holds no COLMAP model"):
        read_model(tmp_path)
    broken = written(synthetic(3), tmp_path / "broken")
    (broken / "images.bin").write_bytes(b"\x07")
    with pytest.raises(BadFile, match=r"broken: not a readable COLMAP model") as caught:
        read_model(broken)
    assert "\n" not in str(caught.value)


def test_models_without_a_common_name_are_refused(tmp_path: Path) -> None:
    model = synthetic(4)
    ground_truth = written(model, tmp_path / "truth")
    for image in model.images.values():
        image.name = "sub/" + image.name
    with pytest.raises(BadFile, match="none of its images"):
        evaluate_folder(written(model, tmp_path / "model"), ground_truth)


def test_a_single_pose_is_no_ground_truth(tmp_path: Path) -> None:
    one = estimate_of(synthetic(3), without=2)
    with pytest.raises(BadFile, match="at least two"):
        evaluate_folder(written(synthetic(3), tmp_path / "model"), written(one, tmp_path / "truth"))


def test_statistics_of_an_exact_and_of_an_empty_model() -> None:
    found = model_statistics(synthetic(5))
    assert (found.registered, found.points3D, found.observations) == (5, 40, 200)
    assert found.track_length == 5
    assert found.reprojection_error < 1e-9
    empty = model_statistics(pycolmap.Reconstruction())
    assert (empty.registered, empty.points3D) == (0, 0)
    assert math.isnan(empty.track_length)


# The whole


def test_an_exact_model_scores_one_and_an_empty_one_zero() -> None:
    ground_truth = synthetic(5)
    full, nothing = (
        evaluate(ground_truth, camera_poses(ground_truth)),
        evaluate(pycolmap.Reconstruction(), camera_poses(ground_truth)),
    )
    assert full.auc == pytest.approx({1: 1, 3: 1, 5: 1}, abs=1e-6)
    assert nothing.auc == {1: 0, 3: 0, 5: 0}
    assert (nothing.registered, nothing.total, nothing.centres) == (0, 5, None)
    json.dumps(evaluation_dict(nothing), allow_nan=False)
    assert "0 of 5" in evaluation_text(nothing)


def reference_tool() -> ModuleType:
    path = SHARED / "tools" / "evaluate_model.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there (LOFTR_SFM_SHARED names the folder that holds it)")
    spec = importlib.util.spec_from_file_location("evaluate_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", ["close", "noisy", "two missing", "exact", "two left", "sub-models"])
def test_agrees_with_the_independent_tool(case: str, tmp_path: Path) -> None:
    tool = reference_tool()
    ground_truth = synthetic()
    changes = {
        "close": {"rotation_deg": 0.1, "shift": 0.002},
        "noisy": {"rotation_deg": 3.0, "shift": 0.2},
        "two missing": {"without": 2},
        "exact": {"rotation_deg": 0.0, "shift": 0.0},
        "two left": {"without": 6},
        "sub-models": {"without": 1},
    }[case]
    folder = tmp_path / "model"
    written(estimate_of(ground_truth, **changes), folder / "1" if case == "sub-models" else folder)
    if case == "sub-models":
        written(estimate_of(ground_truth, without=5), folder / "0")
    gt = written(ground_truth, tmp_path / "gt")
    theirs, ours = tool.evaluate(folder, gt), evaluate_folder(folder, gt)
    assert (ours.registered, ours.total) == (theirs["registered"], theirs["total"])
    assert list(ours.unregistered) == theirs["unregistered_images"]
    assert {f"{t:g}": a for t, a in ours.auc.items()} == pytest.approx(theirs["auc"], abs=1e-6)
    assert ours.statistics.points3D == theirs["points"]
    assert ours.statistics.track_length == pytest.approx(theirs["mean_track_length"])
    assert ours.statistics.reprojection_error == pytest.approx(theirs["mean_reprojection_error"], abs=1e-6)
    if ours.centres is None:
        assert theirs["centre_error"]["median"] is None
    else:
        for name in ("median", "max", "extent"):
            assert getattr(ours.centres, name) == pytest.approx(theirs["centre_error"][name], abs=1e-6)
        assert ours.centres.max / ours.centres.extent == pytest.approx(theirs["centre_error"]["max_rel"], abs=1e-6)


def test_agrees_with_the_independent_tool_on_a_real_ground_truth(tmp_path: Path) -> None:
    tool = reference_tool()
    gt = SHARED / "datasets" / "strecha_fountain_p11" / "gt"
    if not gt.is_dir():
        pytest.skip(f"{gt} is not there")
    model = pycolmap.Reconstruction(str(gt))
    folder = written(estimate_of(model, without=2, rotation_deg=1.0, shift=0.05), tmp_path / "model")
    theirs, ours = tool.evaluate(folder, gt), evaluate_folder(folder, gt)
    assert 0 < ours.auc[5] < 1
    assert {f"{t:g}": a for t, a in ours.auc.items()} == pytest.approx(theirs["auc"], abs=1e-6)
    assert ours.statistics.points3D == 0


def test_a_text_names_some_of_many_images():
    assert some_names(["a", "b"]) == "a, b"
    names = [f"{i}.jpg" for i in range(1008)]
    assert some_names(names) == ", ".join(names[:8]) + " and 1,000 more"
