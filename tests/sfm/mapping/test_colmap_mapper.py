"""mapper: COLMAP's options follow the matcher's pixels, and what is known stays."""

from dataclasses import replace

import pycolmap
import pytest

from sfm.mapping import colmap_mapper as M
from sfm.mapping.inputs import Attempt
from sfm.mapping.retry_strategy import STRATEGIES
from sfm.types import Grid, MatcherTraits
from tests.support.mapping_scene import FOCAL, NAMES, OPTIONS


def attempt(data, **changes):
    return Attempt("default", STRATEGIES[0], replace(data, **changes))


WIDE = {"grids": dict.fromkeys(NAMES, Grid(16.0, 16.0, 80))}
SPARSE = {"grids": {}, "traits": MatcherTraits()}


def test_thresholds_follow_the_matchers_deviation_and_are_colmaps_for_sift(mapping_data):
    default = pycolmap.IncrementalPipelineOptions().mapper
    as_sparse, as_wide = (M.incremental_options(attempt(mapping_data, **c), OPTIONS) for c in (SPARSE, WIDE))
    names = ("init_max_error", "abs_pose_max_error", "filter_max_reproj_error")
    assert [getattr(as_sparse.mapper, n) for n in names] == [getattr(default, n) for n in names] == [4, 12, 4]
    assert [getattr(as_wide.mapper, n) for n in names] == [8, 24, 4]
    assert as_wide.triangulation.merge_max_reproj_error == 4
    exact = M.incremental_options(attempt(mapping_data, traits=MatcherTraits(0.5), grids={}), OPTIONS)
    assert [getattr(exact.mapper, n) for n in names] == [2, 6, 2]
    assert {as_wide.random_seed, as_wide.mapper.random_seed, as_wide.triangulation.random_seed} == {OPTIONS.seed}


def test_global_thresholds_follow_the_matchers_deviation_and_the_focal_length(mapping_data):
    default = pycolmap.GlobalPipelineOptions().mapper
    as_sparse, as_wide = (M.global_options(attempt(mapping_data, **c), OPTIONS).mapper for c in (SPARSE, WIDE))
    assert as_sparse.max_normalized_reproj_error == default.max_normalized_reproj_error
    assert as_wide.max_normalized_reproj_error == pytest.approx(4 / FOCAL)
    assert as_wide.retriangulation.complete_max_reproj_error == 4
    assert {as_wide.random_seed, as_wide.global_positioning.random_seed} == {OPTIONS.seed}


def test_held_distortion_leaves_the_focal_length_free(mapping_data):
    held = replace(attempt(mapping_data), hold_distortion=True)
    options = M.incremental_options(held, OPTIONS)
    assert not options.ba_refine_extra_params
    assert not options.mapper.abs_pose_refine_extra_params
    assert options.ba_refine_focal_length
    assert options.mapper.abs_pose_refine_focal_length
    adjustment = M.global_options(held, OPTIONS).mapper.bundle_adjustment
    assert (adjustment.refine_focal_length, adjustment.refine_extra_params) == (True, False)


def test_known_intrinsics_are_not_refined(mapping_data):
    known = attempt(mapping_data, known_intrinsics=True)
    options, adjustment = M.incremental_options(known, OPTIONS), M.global_options(known, OPTIONS).mapper
    assert not options.ba_refine_focal_length
    assert not options.mapper.abs_pose_refine_focal_length
    assert not adjustment.bundle_adjustment.refine_focal_length
    assert not adjustment.bundle_adjustment.refine_extra_params
