"""A roof that is photographed exactly, with a model of it that is a pixel off: what refinement begins with."""

from dataclasses import replace

import numpy as np
import pycolmap

from sfm.colmap.log import adjust_bundle
from sfm.colmap.model_arrays import ModelColumns
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement.rounds import Refiner
from tests.support.plane_scene import NAMES, make_model, poses, rendered, surface_points

WRONG = 3  # points of image 1 whose observations are of something else


def refiner_of(data, **changes):
    made = Refiner(data, RefinementOptions(), MappingOptions(threads=1), lambda name: rendered(NAMES.index(name)))
    return replace(made, **changes)


def mapped(observations, images=range(5)):
    """What mapping would make of the observations: all poses and points fitted to them, intrinsics held."""
    xyz = surface_points()
    model = make_model(xyz, observations, images=images)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = False
    adjust_bundle(model, options)
    return model


def largest_error_deg(model, among=NAMES):
    """Largest error of the relative poses of some images, degrees."""
    found = {m.name: m.cam_from_world().matrix() for m in model.images.values()}
    ground_truth = dict(zip(NAMES, poses(), strict=True))
    names = sorted(name for name in found if name in among)
    return max(
        max(pose_error_deg(relative_pose(found[a], found[b]), relative_pose(ground_truth[a], ground_truth[b])))
        for a in names
        for b in names
        if a < b
    )


def assert_same(a, b, **tolerance):
    """Two models are the same but for numbers of points."""
    ours, theirs = ModelColumns.of(a), ModelColumns.of(b)
    assert ours.names == theirs.names
    np.testing.assert_allclose(ours.rotations, theirs.rotations, **tolerance)
    np.testing.assert_allclose(ours.translations, theirs.translations, **tolerance)
    rows = [np.lexsort((c.point2D, c.image)) for c in (ours, theirs)]
    for name in ("image", "point2D"):
        np.testing.assert_array_equal(getattr(ours, name)[rows[0]], getattr(theirs, name)[rows[1]])
    np.testing.assert_allclose(ours.xy[rows[0]], theirs.xy[rows[1]], **tolerance)
    np.testing.assert_allclose(ours.xyz[ours.point[rows[0]]], theirs.xyz[theirs.point[rows[1]]], **tolerance)
    for i, camera in a.cameras.items():
        np.testing.assert_allclose(camera.params, b.cameras[i].params, **tolerance)
