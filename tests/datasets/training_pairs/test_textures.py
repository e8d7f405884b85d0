from dataclasses import replace

import numpy as np

from sfm.datasets.training_pairs.photometric import Photometric, changed
from sfm.datasets.training_pairs.textures import Texture, grid_xy


def test_full_size_sampling_is_bilinear_and_mirrored() -> None:
    image = np.arange(20, dtype=np.uint8)[None].repeat(16, 0) * 10
    texture = Texture.of(image)
    xy = np.array([[0.5, 8], [1.0, 8], [7.25, 3], [-1.5, 8], [21.5, 8], [41.5, 8]], np.float32)
    np.testing.assert_allclose(texture.sample(xy, 1.0), [0, 5, 67.5, 10, 180, 10], atol=1e-3)


def test_reduced_sampling_averages() -> None:
    """A checkerboard seen from afar is grey, and a ramp stays where it is."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    xy = grid_xy(16, 16) * 4
    far = Texture.of(board).sample(xy, 4.0)
    assert np.abs(far - 127.5).max() < 12
    ramp = np.arange(64, dtype=np.uint8)[None].repeat(64, 0) * 4
    inner = xy[(xy > 10).all(1) & (xy < 54).all(1)]
    for footprint in (1.5, 2.0, 3.0, 4.0):
        seen = Texture.of(ramp).sample(inner, footprint)
        np.testing.assert_allclose(seen, 4 * (inner[:, 0] - 0.5), atol=2.0)


def test_photometric_change_is_moderate_and_repeatable() -> None:
    grey = np.linspace(40, 200, 64 * 80, dtype=np.float32).reshape(64, 80)
    results = [changed(np.random.default_rng(seed), grey, Photometric()) for seed in range(20)]
    again = changed(np.random.default_rng(3), grey, Photometric())
    np.testing.assert_array_equal(results[3], again)
    for result in results:
        assert result.shape == grey.shape
        assert result.dtype == np.uint8
    unshadowed = replace(Photometric(), shadow_share=0.0)
    for seed in range(20):
        result = changed(np.random.default_rng(seed), grey, unshadowed)
        assert np.corrcoef(result.ravel(), grey.ravel())[0, 1] > 0.85
    assert np.std([r.mean() for r in results]) > 5


def test_motion_blur_keeps_place() -> None:
    spot = np.zeros((41, 41), np.float32)
    spot[20, 20] = 255
    calm = Photometric((1, 1), 1.0, 1.0, 0.0, 0.0, 1.3, 0.75, 95, 0.0, 0.0, 0.0)
    y, x = np.indices(spot.shape)
    for seed in range(8):
        seen = changed(np.random.default_rng(seed), spot, calm).astype(float)
        assert abs((seen * x).sum() / seen.sum() - 20) < 0.1
        assert abs((seen * y).sum() / seen.sum() - 20) < 0.1
