"""Comparison of two models whose difference is known."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm.errors import BadFile, BadOption
from sfm.evaluation.comparison import Row, agreement, compare, format_table, table_rows
from sfm.evaluation.model import camera_poses


def synthetic(num_images: int = 8) -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = num_images, 1, 1
    options.num_points3D = 40
    return pycolmap.synthesize_dataset(options)


def moved(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """The same model in another frame and scale."""
    other = pycolmap.Reconstruction(model)
    other.transform(pycolmap.Sim3d(3.0, pycolmap.Rotation3d(np.array([0.1, 0.7, -0.2])), np.array([5.0, -1.0, 2.0])))
    return other


def without(model: pycolmap.Reconstruction, *names: str) -> pycolmap.Reconstruction:
    other = pycolmap.Reconstruction(model)
    for image in list(other.images.values()):
        if image.name in names:
            other.deregister_frame(image.frame_id)
    return other


def written(model: pycolmap.Reconstruction, folder: Path) -> Path:
    folder.mkdir(parents=True)
    model.write(str(folder))
    return folder


def test_equal_models_in_different_frames_agree(tmp_path: Path) -> None:
    model = synthetic()
    found = compare([written(model, tmp_path / "a"), written(moved(model), tmp_path / "b")])
    assert found.common == 8
    assert found.sides[0].only_here == found.sides[1].only_here == ()
    assert found.agreements[0] is not None
    assert found.agreements[0].centre_max < 1e-9
    assert found.agreements[0].rotation_max_deg < 1e-5
    assert found.sides[0].evaluation is None
    assert found.sides[0].statistics.points3D == found.sides[1].statistics.points3D == 40


def test_images_of_one_model_only_are_named(tmp_path: Path) -> None:
    model = synthetic()
    names = sorted(camera_poses(model))
    a, b = without(model, names[0]), without(moved(model), names[1], names[2])
    found = compare([written(a, tmp_path / "a"), written(b, tmp_path / "out" / "sparse" / "0").parent.parent])
    assert found.sides[0].only_here == (names[1], names[2])
    assert found.sides[1].only_here == (names[0],)
    assert found.common == 5
    assert (found.sides[0].statistics.registered, found.sides[1].statistics.registered) == (7, 6)
    table = format_table(found, names=("LoFTR", "SIFT"))
    assert f"only in LoFTR: {names[1]}, {names[2]}" in table
    assert f"only in SIFT: {names[0]}" in table


def test_a_rotated_camera_is_found() -> None:
    poses = camera_poses(synthetic())
    name = sorted(poses)[4]
    image_rotation = pycolmap.Rotation3d(np.array([0.0, 0.0, np.radians(5)])).matrix()
    found = agreement(poses, poses | {name: image_rotation @ poses[name]})  # about its own centre
    assert found is not None
    assert found.centre_max < 1e-9
    assert found.rotation_max_deg == pytest.approx(5, abs=1e-6)
    assert found.rotation_median_deg < 1e-5


def test_a_shifted_camera_is_found_as_a_part_of_the_extent() -> None:
    poses = camera_poses(synthetic())
    name = sorted(poses)[4]
    shifted = poses[name].copy()
    shifted[:, 3] += [0.0, 0.0, 0.1]
    found = agreement(poses | {name: shifted}, poses)
    grown = agreement(
        {n: p * [1, 1, 1, 10] for n, p in (poses | {name: shifted}).items()},
        {n: p * [1, 1, 1, 10] for n, p in poses.items()},
    )
    assert found is not None
    assert grown is not None
    assert found.worst_image == name
    assert 0.001 < found.centre_max < 0.1
    assert grown.centre_max == pytest.approx(found.centre_max)  # a ratio: the unit does not matter


def test_the_ground_truth_evaluates_both(tmp_path: Path) -> None:
    model = synthetic()
    gt = written(model, tmp_path / "gt")
    name = sorted(camera_poses(model))[0]
    found = compare([written(without(model, name), tmp_path / "a"), written(moved(model), tmp_path / "b")], gt)
    assert found.sides[0].evaluation is not None
    assert found.sides[1].evaluation is not None
    assert found.sides[0].evaluation.auc[5] == pytest.approx(21 / 28, abs=1e-6)  # 7 of 28 pairs lack an image
    assert found.sides[1].evaluation.auc[5] == pytest.approx(1, abs=1e-6)
    lines = {" ".join(line.split()[:-2]): line.split()[-2:] for line in format_table(found).splitlines()}
    assert lines["pose AUC @ 5°"] == ["0.750", "1.000"]
    assert lines["registered of GT"] == ["7/8", "8/8"]


def test_two_common_images_cannot_be_aligned(tmp_path: Path) -> None:
    model = synthetic(5)
    names = sorted(camera_poses(model))
    found = compare([written(model, tmp_path / "a"), written(without(model, *names[2:]), tmp_path / "b")])
    assert found.common == 2
    assert found.agreements[0] is None
    assert "too few common images" in format_table(found)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="nowhere"):
        compare([written(synthetic(3), tmp_path / "a"), tmp_path / "nowhere"])


def test_three_models_have_a_column_each(tmp_path: Path) -> None:
    model = synthetic()
    names = sorted(camera_poses(model))
    own = [model, without(model, names[0]), without(model, names[0], names[1])]
    found = compare([written(each, tmp_path / str(k)) for k, each in enumerate(own)], written(model, tmp_path / "gt"))
    assert (found.common, len(found.agreements)) == (6, 2)
    assert [side.only_here for side in found.sides] == [(names[0],), (), ()]
    rows = {row.label: row for row in table_rows(found)}
    assert rows["registered images"].texts == ("8", "7", "6")
    assert rows["registered images"].best == (0,)
    assert rows["pose AUC @ 5°"].texts == ("1.000", "0.750", "0.536")  # 28, 21 and 15 of 28 pairs
    table = format_table(found)
    assert "images in all: 6" in table
    assert [line.split()[:3] for line in table.splitlines() if "aligned to A" in line] == [
        ["B", "aligned", "to"],
        ["C", "aligned", "to"],
    ]


def test_one_model_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="compare: 1 given; give 2 to 26 models"):
        compare([tmp_path])


@pytest.mark.parametrize(
    ("values", "sign", "best"),
    [((1, 2, 2), 1, (1, 2)), ((1, 2, 2), -1, (0,)), ((3, 3), 1, ()), ((3, float("nan")), -1, (0,)), ((1, 2), 0, ())],
)
def test_the_best_of_a_row(values: tuple[float, ...], sign: int, best: tuple[int, ...]) -> None:
    assert Row("", ("",) * len(values), values, sign).best == best
