"""A round that is kept comes back as it was, or not at all."""

import json

import numpy as np
import pytest

from sfm.refinement import checkpoint as R
from tests.support.plane_scene import NAMES
from tests.support.refinement_scene import assert_same


def test_a_round_that_is_kept_comes_back(refined, tmp_path):
    first, second, _ = refined
    for state in (first, second):
        R.save_round(state, tmp_path)
        back = R.load_round(tmp_path, NAMES)
        assert_same(back.model, state.model, rtol=0)
        for name in ("rounds", "num_registered", "num_rejected", "moved"):
            assert getattr(back, name) == getattr(state, name)
        assert back.covariances.keys() == state.covariances.keys()
        assert all((back.covariances[i] == own).all() for i, own in state.covariances.items())
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("name", ["counts.json", "covariances.npz", "images.bin", "points3D.bin", "cameras.bin"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
def test_a_damaged_round_is_not_used(refined, tmp_path, name, damage):
    R.save_round(refined[0], tmp_path)
    path = tmp_path / "state" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"\xff" * 60}[damage])
    assert R.load_round(tmp_path, NAMES) is None


@pytest.mark.parametrize("other", [[], 3, {}, {"rounds": 1, "unknown": 2}])
def test_counts_of_another_version_are_not_used(refined, tmp_path, other):
    R.save_round(refined[0], tmp_path)
    path = tmp_path / "state" / "counts.json"
    digest = json.loads(path.read_text())["digest"]
    path.write_text(json.dumps({**other, "digest": digest} if other and isinstance(other, dict) else other))
    assert R.load_round(tmp_path, NAMES) is None


def test_a_round_of_other_images_is_not_used(refined, tmp_path):
    R.save_round(refined[0], tmp_path)
    assert R.load_round(tmp_path, NAMES[:3]) is None


@pytest.mark.parametrize("arrays", [{}, {"x": np.zeros(3)}, {"1": np.zeros((3, 2, 2))}, {"1": np.array([{}], object)}])
def test_covariances_of_another_shape_are_not_used(refined, tmp_path, arrays):
    R.save_round(refined[0], tmp_path)
    np.savez(tmp_path / "state" / "covariances.npz", allow_pickle=True, **arrays)
    with_digest(tmp_path)
    assert R.load_round(tmp_path, NAMES) is None


def test_covariances_that_unpack_to_more_are_not_used(refined, tmp_path):
    R.save_round(refined[0], tmp_path)
    np.savez_compressed(tmp_path / "state" / "covariances.npz", **{"1": np.zeros((1 << 20, 2, 2))})
    with_digest(tmp_path)
    assert R.load_round(tmp_path, NAMES) is None


def with_digest(folder):
    """Makes the hash in a kept state right again."""
    path = folder / "state" / "counts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": R.digest_of_state(folder / "state")}))


def test_no_round_is_none(tmp_path):
    assert R.load_round(tmp_path / "nowhere", NAMES) is None
