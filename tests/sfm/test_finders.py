"""Matchers side by side: what they are called and what their matches depend on."""

from sfm.finders import joined, joined_provenance


def test_one_matcher_is_what_it_says_of_itself():
    assert joined_provenance([{"matcher": "sift", "colmap": "4"}]) == {"matcher": "sift", "colmap": "4"}


def test_of_several_each_value_says_whose_it_is():
    found = joined_provenance([{"matcher": "loftr", "resize": "640"}, {"matcher": "sift", "colmap": "4"}])
    assert found == {"matcher": "loftr+sift", "loftr.resize": "640", "sift.colmap": "4"}
    assert joined(["a", "b"]) == "a+b"
