"""COLMAP goes on from what any run leaves: database.db is of sparse/N, whatever was run there before."""

import shutil
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.matchers import registry as matcher_choice
from sfm.options import ImageOptions, MappingOptions, MatchingOptions, Options, RefinementOptions
from sfm.pipeline.refine_model import refine_folder
from sfm.pipeline.run import reconstruct
from sfm.registry import Entry
from sfm.types import MatcherTraits
from tests.support.arc_scene import FOCAL, HEIGHT, NUM, WIDTH, ExactMatcher, write_image
from tests.support.carrying_on import assert_database_is_of, carry_on

K1, K2 = -0.1, 0.4


class OtherLens(ExactMatcher):
    """A lens with a second radial term."""

    def __init__(self, *, refinable: bool = True) -> None:
        super().__init__(batch_size=4)
        self.traits = MatcherTraits(refinable=refinable)

    def encode(self, images, masks=None):
        seen = super().encode(images)
        middle = np.array([WIDTH, HEIGHT]) / 2
        for own in seen:
            r2 = (((own.xy - middle) / FOCAL) ** 2).sum(axis=1, keepdims=True)
            xy = (own.xy - middle) * (1 + K1 * r2 + K2 * r2**2) + middle
            inside = ((xy > 1) & (xy < (WIDTH - 1, HEIGHT - 1))).all(axis=1)
            own.index, own.keypoints, own.xy = own.index[inside], own.keypoints[inside], xy[inside]
        return seen


@pytest.fixture
def lens(monkeypatch):
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: OtherLens()))


@pytest.fixture
def folders(tmp_path):
    """Two folders of the scene's images: two cameras, where each folder has one."""
    for i in range(2 * NUM):
        folder = tmp_path / "photos" / ("first", "second")[i // NUM]
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{i}.png", i)
    return tmp_path / "photos"


def options(**changes):
    return Options(
        images=ImageOptions(camera=changes.pop("camera", "single"), intrinsics=changes.pop("intrinsics", None)),
        mapping=MappingOptions(threads=1, known_poses=changes.pop("known_poses", None)),
        refinement=RefinementOptions(**changes),
    )


def final(out):
    return pycolmap.Reconstruction(out / "sparse" / "0")


def raised(out):
    return {camera.model_name for camera in final(out).cameras.values()}


def test_cameras_that_refinement_raised_are_in_the_database(images, tmp_path, lens):
    out = tmp_path / "out"
    reconstruct(images, out, options())
    assert raised(out) == {"RADIAL"}
    carry_on(out, images)


def test_every_order_of_runs_in_a_folder_leaves_the_database_of_the_last(images, tmp_path, lens):
    out = tmp_path / "out"
    for no_refine, expected in ((False, "RADIAL"), (True, "SIMPLE_RADIAL"), (False, "RADIAL")):
        reconstruct(images, out, options(no_refine=no_refine))
        assert raised(out) == {expected}
        assert_database_is_of(out, final(out))
    carry_on(out, images)
    reconstruct(images, out, options(no_refine=True))
    carry_on(out, images)


def test_a_detectors_run_leaves_its_final_cameras(images, tmp_path, monkeypatch):
    detector = OtherLens(refinable=False)
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "sift", Entry("", lambda *_: detector))
    given = replace(options(), matching=MatchingOptions(matcher="sift"))
    reconstruct(images, tmp_path / "out", given)
    carry_on(tmp_path / "out", images)


def test_known_poses_leave_their_cameras(images, tmp_path, lens):
    first, out = tmp_path / "first", tmp_path / "out"
    reconstruct(images, first, options())
    reconstruct(images, out, options(known_poses=first / "sparse" / "0"))
    assert raised(out) == {"RADIAL"}
    carry_on(out, images)


def test_several_cameras(folders, tmp_path, lens):
    out = tmp_path / "out"
    reconstruct(folders, out, options(camera="per-folder"))
    model = final(out)
    assert (len(model.cameras), model.num_reg_images()) == (2, 2 * NUM)
    assert raised(out) == {"RADIAL"}
    carry_on(out, folders)


def test_a_refined_model_of_somebody_elses_comes_with_its_database(images, tmp_path, lens, monkeypatch):
    out = tmp_path / "out"
    reconstruct(images, out, options(no_refine=True))
    foreign = shutil.copytree(out / "sparse" / "0", tmp_path / "foreign")
    refine_folder(foreign, images, tmp_path / "refined")
    assert raised(tmp_path / "refined") == {"RADIAL"}
    carry_on(tmp_path / "refined", images)
