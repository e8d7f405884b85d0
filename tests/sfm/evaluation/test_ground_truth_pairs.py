"""Pairs with known poses: of a model, of a list of its pairs, and of a file in SuperGlue's format."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.evaluation.ground_truth_pairs import read_posed_pairs, sample
from sfm.evaluation.options import PairEvaluationOptions
from sfm.geometry.poses import relative_pose
from sfm.images.index import read_images_index
from sfm.options import ImageOptions
from tests.support.arc_scene import STEP_DEG, K, pose
from tests.support.posed_images import NAMES, NUM, write_posed_images

ALL = PairEvaluationOptions()


@pytest.fixture
def scene(tmp_path):
    return write_posed_images(tmp_path / "scene")


@pytest.fixture
def records(scene):
    return {record.name: record for record in read_images_index(scene / "images", ImageOptions())[0]}


def line(a: int, b: int, *, rots: str = "0 0") -> str:
    """A pair as SuperGlue's files have it; pixels with their origin at the first one's centre."""
    centred = K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    matrix = np.vstack([relative_pose(pose(a), pose(b)), [0, 0, 0, 1]])
    numbers = " ".join(repr(float(v)) for v in [*centred.ravel(), *centred.ravel(), *matrix.ravel()])
    return f"{NAMES[a]} {NAMES[b]} {rots} {numbers}"


def test_pairs_of_a_model(scene, records) -> None:
    pairs = read_posed_pairs(scene / "gt", records, ALL)
    assert len(pairs) == NUM * (NUM - 1) // 2
    assert (pairs[1].name0, pairs[1].name1) == (NAMES[0], NAMES[2])
    np.testing.assert_allclose(pairs[1].cam1_from_cam0, relative_pose(pose(0), pose(2)), atol=1e-9)
    assert pairs[1].rotation_deg == pytest.approx(2 * STEP_DEG)
    np.testing.assert_allclose(pairs[1].camera1.calibration_matrix(), K)


def test_pairs_are_bounded_by_rotation_and_number(scene, records) -> None:
    near = read_posed_pairs(scene / "gt", records, PairEvaluationOptions(max_rotation=STEP_DEG + 0.1))
    assert [(p.name0, p.name1) for p in near] == list(pairwise(NAMES))
    some = read_posed_pairs(scene / "gt", records, PairEvaluationOptions(max_pairs=2))
    assert len(some) == 2
    assert sample(range(100), 5) == sample(range(100), 5) == tuple(sorted(sample(range(100), 5)))
    assert sample("abc", 0) == sample("abc", 7) == ("a", "b", "c")


def test_a_list_of_pairs_is_taken_as_it_is(scene, records, tmp_path) -> None:
    (tmp_path / "pairs.txt").write_text(f"{NAMES[3]} {NAMES[0]}\n")
    options = PairEvaluationOptions(pairs=tmp_path / "pairs.txt", max_rotation=1.0)
    (pair,) = read_posed_pairs(scene / "gt", records, options)
    assert (pair.name0, pair.name1) == (NAMES[0], NAMES[3])


def test_a_file_of_pairs_with_cameras_says_the_same_as_the_model(scene, records, tmp_path) -> None:
    path = tmp_path / "pairs_with_gt.txt"
    path.write_text(f"{line(0, 1)}\n\n{line(3, 1, rots='1 0')}\n")
    pairs = read_posed_pairs(path, records, ALL)
    assert [(p.name0, p.name1, p.image_rotation) for p in pairs] == [(NAMES[0], NAMES[1], 0), (NAMES[3], NAMES[1], 3)]
    np.testing.assert_allclose(pairs[1].cam1_from_cam0, relative_pose(pose(3), pose(1)), atol=1e-12)
    np.testing.assert_allclose(pairs[1].camera0.calibration_matrix(), K)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (line(0, 1).rsplit(" ", 1)[0], "line 1: 37 values, expected 38"),
        (line(0, 1).replace(NAMES[1], "../secret.png"), "no usable image '../secret.png'"),
        (line(0, 1) + "\n" + line(0, 1), "line 2: a pair a second time"),
        (line(0, 0), "of one image"),
        (line(0, 1, rots="0 up"), "no number"),
        (line(0, 1).replace("384.0", "nan", 1), "not finite"),
        (line(0, 1).replace("384.0", "-1", 1), "no calibration matrix"),
        (line(0, 1).rsplit(" ", 16)[0] + " 2" * 16, "no rotation"),
        ("", "no pair"),
        ("x" * 70000, "longer than"),
    ],
)
def test_bad_files_are_one_line(text, said, scene, records, tmp_path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(BadFile) as error:
        read_posed_pairs(path, records, ALL)
    assert said in str(error.value)
    assert "pairs.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_images_must_be_those_of_the_model(scene, records, tmp_path) -> None:
    with pytest.raises(BadFile, match=f"no usable image '{NAMES[2]}'"):
        read_posed_pairs(scene / "gt", {n: r for n, r in records.items() if n != NAMES[2]}, ALL)
    from PIL import Image

    Image.new("L", (64, 48)).save(scene / "images" / NAMES[0])
    small = {record.name: record for record in read_images_index(scene / "images", ImageOptions())[0]}
    with pytest.raises(BadFile, match="is 320x240, but the image is 64x48"):
        read_posed_pairs(scene / "gt", small, ALL)


def test_two_lists_of_pairs_contradict(scene, records, tmp_path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(line(0, 1))
    with pytest.raises(BadFile, match="leave out --pairs"):
        read_posed_pairs(path, records, PairEvaluationOptions(pairs=path))
