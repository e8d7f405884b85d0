"""The adapter of vismatch, whose package is not installed here: its interface is stood in for."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sfm.errors import BadOption
from sfm.matchers.registry import make_matcher
from sfm.matchers.vismatch import VismatchMatcher
from sfm.options import MatchingOptions

IMAGE = np.full((120, 160), 100, np.uint8)


class Given:
    """A model that answers with given points."""

    def __init__(self, points0, points1, confidence=None) -> None:
        self.points0, self.points1, self.confidence = points0, points1, confidence
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, image0, image1):
        self.shapes += [tuple(image0.shape), tuple(image1.shape)]
        assert float(image0.min()) >= 0
        assert float(image0.max()) <= 1
        return {"matched_kpts0": self.points0, "matched_kpts1": self.points1, "matched_confidences": self.confidence}


def matched(model, *, resize=320, threshold=None, masks=None):
    matcher = VismatchMatcher(model, "given", version="1", resize=resize, threshold=threshold)
    return matcher, matcher.match([tuple(matcher.encode([IMAGE, IMAGE], masks))])[0]


def test_points_are_scaled_to_the_image_and_get_the_cells_that_they_lie_in():
    model = Given(np.array([[31.5, 15.5], [200.0, 100.0]]), np.array([[0.0, 0.0], [318.0, 222.0]]))
    matcher, found = matched(model)
    assert model.shapes == [(3, 256, 320)] * 2  # sides are multiples of 32
    scale = np.array([160 / 320, 120 / 256])
    np.testing.assert_allclose(found.points0, (model.points0 + 0.5) * scale, rtol=1e-6)
    np.testing.assert_allclose(found.points1, (model.points1 + 0.5) * scale, rtol=1e-6)
    assert found.confidence.tolist() == [1, 1]
    grid = matcher.grid(160, 120)
    for points, cells in ((found.points0, found.cells0), (found.points1, found.cells1)):
        np.testing.assert_array_equal(cells % grid.columns, points[:, 0] // grid.cell_width)
        np.testing.assert_array_equal(cells // grid.columns, points[:, 1] // grid.cell_height)


def test_of_a_cell_the_most_confident_match_stays():
    points = np.array([[10.0, 10], [11, 11], [12, 12], [100, 10], [200, 10]])
    others = np.array([[50.0, 50], [80, 80], [120, 90], [120.5, 90], [200, 10]])
    _, found = matched(Given(points, others, np.array([0.5, 0.9, 0.7, 0.6, 0.95])))
    np.testing.assert_allclose(found.confidence, [0.95, 0.9, 0.6])
    assert len(set(found.cells0.tolist())) == len(set(found.cells1.tolist())) == 3


def test_what_is_not_confident_masked_out_or_no_number_is_left():
    points = np.array([[10.0, 10], [100, 10], [200, 10], [300, 100]])
    confidence = np.array([0.2, 0.8, 0.9, 0.7])
    _, found = matched(Given(points, points, confidence), threshold=0.5)
    assert len(found) == 3
    right = np.ones(IMAGE.shape, bool)
    right[:, :60] = False
    _, found = matched(Given(points, points, confidence), masks=[None, right])
    np.testing.assert_allclose(sorted(found.confidence), [0.7, 0.9])
    _, found = matched(Given(np.where(points == 200, np.nan, points), points, confidence))
    assert len(found) == 3


@pytest.mark.parametrize("empty", [np.empty((0, 2)), np.empty(0)])
def test_nothing_found_is_no_match(empty):
    assert len(matched(Given(empty, empty))[1]) == 0


@pytest.fixture
def installed(monkeypatch):
    def get_matcher(name, device):
        if name == "broken":
            raise RuntimeError("no\nsuch server")
        return Given(np.empty((0, 2)), np.empty((0, 2)))

    package = SimpleNamespace(available_models=["given", "broken"], get_matcher=get_matcher)
    monkeypatch.setitem(sys.modules, "vismatch", package)
    monkeypatch.setattr("sfm.matchers.vismatch.metadata.version", lambda name: "1.4.0")


@pytest.mark.usefixtures("installed")
def test_it_is_made_by_name():
    matcher = make_matcher(MatchingOptions(matcher="vismatch:given", device="cpu", resize=480))
    assert matcher.name == "vismatch:given"
    assert matcher.provenance == {
        "matcher": "vismatch",
        "model": "given",
        "vismatch": "1.4.0",
        "resize": "480",
        "threshold": "None",
    }


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("vismatch", "vismatch: give vismatch:NAME"),
        ("vismatch:none", "vismatch:none: it has broken, given$"),
        ("vismatch:broken", "vismatch:broken: no such server$"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(name, what):
    with pytest.raises(BadOption, match=f"^--matcher {what}"):
        make_matcher(MatchingOptions(matcher=name, device="cpu"))


@pytest.mark.usefixtures("installed")
def test_without_the_network_its_weights_must_be_there(monkeypatch):
    options = MatchingOptions(matcher="vismatch:given", device="cpu", offline=True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(BadOption, match=r"^--offline: vismatch asks its server; .*HF_HUB_OFFLINE=1$"):
        make_matcher(options)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert make_matcher(options).name == "vismatch:given"


def test_where_it_is_not_installed_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vismatch", None)
    with pytest.raises(BadOption, match="pip install vismatch into an environment of its own") as error:
        make_matcher(MatchingOptions(matcher="vismatch:roma", device="cpu"))
    assert "\n" not in str(error.value)
