"""network_figures: equal features have equal colours, and what a pixel looks at is where the figure says."""

import numpy as np
import pytest

from sfm.two_view.figures import RgbPair
from sfm.two_view.network_figures import AttentionMap, attention_figure, common_colours, feature_figure


@pytest.fixture
def images():
    return RgbPair(np.full((60, 80, 3), 128, np.uint8), np.full((90, 60, 3), 128, np.uint8), ("a.jpg", "b.jpg"))


def test_equal_features_have_equal_colours_in_both_images():
    rng = np.random.default_rng(0)
    features0 = rng.normal(size=(6, 8, 32))
    features1 = np.concatenate([features0[::-1, :5], rng.normal(size=(6, 1, 32))], axis=1)
    colours0, colours1 = common_colours(features0, features1)
    assert colours0.shape == (6, 8, 3)
    assert colours1.shape == (6, 6, 3)
    np.testing.assert_allclose(colours1[:, :5], colours0[::-1, :5])
    assert min(colours0.min(), colours1.min()) == 0
    assert max(colours0.max(), colours1.max()) == 1


def test_colours_are_the_principal_components():
    """Against an SVD, up to the component's range."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(10, 12, 16)) * np.linspace(5, 1, 16)
    colours, _ = common_colours(features, features[:2])
    rows = np.concatenate([features.reshape(-1, 16), features[:2].reshape(-1, 16)])
    scores = (rows - rows.mean(axis=0)) @ np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:3].T
    inside = ((colours > 0) & (colours < 1)).reshape(-1, 3)
    for k in range(3):
        ours, theirs = colours.reshape(-1, 3)[inside[:, k], k], scores[:120][inside[:, k], k]
        assert abs(np.corrcoef(ours, theirs)[0, 1]) == pytest.approx(1.0, abs=1e-9)


def test_features_without_variance_are_one_colour():
    colours, _ = common_colours(np.ones((3, 4, 8)), np.ones((3, 4, 8)))
    assert np.isfinite(colours).all()
    assert np.ptp(colours) == 0


def test_feature_figure_has_two_rows_of_three(images):
    rng = np.random.default_rng(0)
    grids = [(rng.normal(size=(6, 8, 16)), rng.normal(size=(9, 6, 16))) for _ in range(2)]
    sheet = feature_figure(images, *grids)
    assert len(sheet.axes.images) == 6
    assert "after the transformer" in [text.get_text() for text in sheet.axes.texts]


@pytest.mark.parametrize("names", [("self", "cross") * 2, ("self", "cross") * 4, ("self",), ("cross", "cross"), ()])
def test_attention_panels_are_brightest_where_the_pixel_looks(images, names):
    maps = []
    for name in names:
        times = np.ones((6, 8) if name == "self" else (9, 6))
        times[4, 2] = 7.25
        maps.append(AttentionMap(name, times))
    sheet = attention_figure(images, tuple(maps), (25.0, 45.0), np.array([10.0, 20.0]))
    panels = sheet.axes.images[:-1]  # the last is the colour bar
    assert len(panels) == len(names)
    told = " ".join(text.get_text() for text in sheet.axes.texts)
    assert told.count("7.2 × even") == len(names)
    for panel in panels:
        warm = panel.get_array()[..., 0].astype(float)
        row, column = np.unravel_index(warm.argmax(), warm.shape)
        rows = 6 if warm.shape[1] > warm.shape[0] else 9
        columns = 8 if rows == 6 else 6
        assert int(row / warm.shape[0] * rows) == 4
        assert int(column / warm.shape[1] * columns) == 2
