"""Similarities: robust against outliers, honest about what points do not determine."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.geometry.similarity import Similarity, fit_similarity, robust_similarity

TRUTH = Similarity(130.0, Rotation.from_euler("xyz", [20, -70, 140], degrees=True).as_matrix(), np.array([5.0, -6, 7]))
SIGMA = np.array([5.0, 5.0, 10.0])


def points(num=40, flat=0.02):
    return np.random.default_rng(1).normal(size=(num, 3)) * [1, 1, flat]


def test_exact_points_are_met():
    source = points()
    found = robust_similarity(source, TRUTH(source), np.tile(SIGMA, (40, 1)))
    assert found.inlier.all()
    assert found.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-12)
    np.testing.assert_allclose(found.similarity.rotation, TRUTH.rotation, atol=1e-12)
    np.testing.assert_allclose(found.residuals, 0, atol=1e-9)


@pytest.mark.parametrize("num_wrong", [5, 12, 18])
def test_up_to_nearly_half_of_the_points_may_be_wrong(num_wrong):
    rng, source = np.random.default_rng(2), points()
    target = TRUTH(source) + rng.normal(size=source.shape) * SIGMA / 2
    target[:num_wrong] += rng.normal(0, 100, (num_wrong, 3)) + 50
    found = robust_similarity(source, target, np.tile(SIGMA, (40, 1)))
    assert found.similarity.scale == pytest.approx(TRUTH.scale, rel=0.03)
    assert found.inlier[num_wrong:].mean() > 0.9
    assert found.inlier[:num_wrong].mean() < 0.2
    assert 0.3 < found.noise < 1.2  # 0.5, of which the median over all points makes up to twice as much


def test_poor_heights_do_not_tilt_the_rest():
    rng, source = np.random.default_rng(3), points(60, 1.0)
    noise = rng.normal(size=source.shape) * [1, 1, 40]
    found = robust_similarity(source, TRUTH(source) + noise, np.tile([1.0, 1.0, 40.0], (60, 1)))
    plain = fit_similarity(source, TRUTH(source) + noise)
    off, off_plain = (np.abs(fit.rotation - TRUTH.rotation).max() for fit in (found.similarity, plain))
    assert off < 0.02 < off_plain


def test_deviations_are_those_of_many_trials():
    source, sigma = points(30, 0.1), np.tile(SIGMA, (30, 1))
    fits = [
        robust_similarity(source, TRUTH(source) + np.random.default_rng(i).normal(size=source.shape) * SIGMA, sigma)
        for i in range(60)
    ]
    scale, rotation = fits[0].deviations(source, sigma)
    scales = np.std([fit.similarity.scale for fit in fits]) / TRUTH.scale
    turns = [Rotation.from_matrix(fit.similarity.rotation @ TRUTH.rotation.T).as_rotvec(degrees=True) for fit in fits]
    assert 0.5 * scale < scales < 2 * scale
    assert 0.4 * rotation < np.std(turns, axis=0).max() < 2 * rotation


def test_a_line_leaves_a_rotation_open():
    source = points() * [1, 1e-3, 1e-3]
    found = robust_similarity(source, TRUTH(source), np.tile(SIGMA, (40, 1)))
    scale, rotation = found.deviations(source, np.tile(SIGMA, (40, 1)))
    assert scale < 0.02
    assert rotation > 90


@pytest.mark.parametrize("source", [np.zeros((3, 3)), np.zeros((8, 3)), points() * [1, 0, 0]])
def test_what_determines_nothing_is_none(source):
    assert robust_similarity(source, source.copy(), np.ones_like(source)) is None


def test_the_same_points_give_the_same_bits():
    source = points(300)
    target = TRUTH(source) + np.random.default_rng(4).normal(size=source.shape) * 20
    first, second = (robust_similarity(source, target, np.ones_like(source)) for _ in range(2))
    assert first.similarity.rotation.tobytes() == second.similarity.rotation.tobytes()
