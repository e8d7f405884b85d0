from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sfm.matchers.sift import SiftMatcher, SiftOptions


@pytest.fixture(scope="module")
def images():
    """Two overlapping views of one texture, the second dimmed and noisy."""
    rng = np.random.default_rng(3)
    texture = sum(s * gaussian_filter(rng.standard_normal((168, 270)), s) for s in (1, 2, 4, 8))
    low, high = np.percentile(texture, (1, 99))
    texture = np.clip((texture - low) / (high - low), 0, 1)
    second = 0.7 * texture[:, 46:] + 0.02 * rng.standard_normal((168, 224))
    return [np.ascontiguousarray((np.clip(t, 0, 1) * 255).astype(np.uint8)) for t in (texture[:, :224], second)]


def colmap_features(image):
    extractor = pycolmap.FeatureExtractor.create(pycolmap.FeatureExtractionOptions(), device=pycolmap.Device.cpu)
    return extractor.extract_from_uint8_array(image)


def test_features_are_those_of_colmaps_extraction(images, tmp_path):
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    pycolmap.extract_features(tmp_path / "db.db", tmp_path, device=pycolmap.Device.cpu)
    with pycolmap.Database.open(tmp_path / "db.db") as database:
        for record in database.read_all_images():
            (features,) = SiftMatcher().encode([images[int(record.name[0])]])
            assert len(features.xy) > 100
            np.testing.assert_array_equal(features.xy, database.read_keypoints(record.image_id)[:, :2])
            np.testing.assert_array_equal(features.descriptors, database.read_descriptors(record.image_id).data)


def test_matches_are_colmaps(images):
    matcher = SiftMatcher()
    matches = matcher.match([tuple(matcher.encode(images))])[0]
    colmap = pycolmap.FeatureMatcher.create(pycolmap.FeatureMatchingOptions(), device=pycolmap.Device.cpu)
    expected = colmap.match(*colmap_features(images[0]), *colmap_features(images[1]))
    assert len(expected) > 50
    ours = sorted(zip(matches.cells0.tolist(), matches.cells1.tolist(), strict=True))
    assert ours == sorted(map(tuple, expected.tolist()))
    assert (np.diff(matches.confidence) <= 0).all()
    assert matches.confidence.min() >= 0.2 - 1e-6  # the ratio of angles is at most 0.8


def test_tiles_change_nothing(images, monkeypatch):
    matcher = SiftMatcher()
    pair = tuple(matcher.encode(images))
    whole = matcher.match([pair])[0]
    monkeypatch.setattr("sfm.matchers.sift.TILE", 7)
    tiled = matcher.match([pair])[0]
    np.testing.assert_array_equal(whole.cells0, tiled.cells0)
    np.testing.assert_array_equal(whole.cells1, tiled.cells1)


def test_large_image_is_reduced_and_points_scaled_back(images):
    full = SiftMatcher().encode([images[0]])[0]
    half = SiftMatcher(SiftOptions(max_image_size=112)).encode([images[0]])[0]
    assert 0 < len(half.xy) < len(full.xy)
    assert half.xy[:, 0].max() > 200  # pixels of the full image
    nearest = np.linalg.norm(half.xy[:, None] - full.xy[None], axis=2).min(axis=1)
    assert np.median(nearest) < 1.0


def test_max_features(images):
    limited = SiftMatcher(SiftOptions(max_features=50)).encode([images[0]])[0]
    assert 0 < len(limited.xy) < 100  # COLMAP keeps whole scales
    assert limited.nbytes == len(limited.xy) * (8 + 128)


def test_provenance_tells_options_apart():
    assert SiftMatcher().provenance == SiftMatcher().provenance
    assert SiftMatcher().provenance != SiftMatcher(SiftOptions(max_ratio=0.9)).provenance
    assert SiftMatcher().grid(640, 480) is None
