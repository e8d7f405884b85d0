"""The stage: models of mapping in, refined ones out, after a kill as well."""

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.colmap.several_models import names_of
from sfm.mapping.retry_strategy import drop_images
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement import stage as R
from sfm.refinement.checkpoint import Refined
from sfm.refinement.rounds import Refiner
from sfm.types import MatcherTraits
from tests.support.carrying_on import assert_database_is_of
from tests.support.plane_scene import NAMES, rendered
from tests.support.refinement_scene import assert_same, refiner_of

LEFT_OUT = (("5.png", "no verified pair"), ("4.png", "too few matches"))


def output_of(model, tmp_path, num=1):
    for i in range(num):
        (tmp_path / "unrefined" / str(i)).mkdir(parents=True)
        model.write_binary(tmp_path / "unrefined" / str(i))
    (tmp_path / "database.db").write_bytes(b"of mapping")
    return tmp_path


def stage(refiner, output, left_out=LEFT_OUT):
    def read_rgb(name):
        return np.repeat(rendered(NAMES.index(name))[..., None], 3, axis=2)

    return R.run(refiner, output=output, read_rgb=read_rgb, left_out=left_out)


def test_the_stage_writes_refined_models_and_their_keypoints(data, model, refined, tmp_path):
    output = output_of(model, tmp_path)
    summary = stage(refiner_of(data), output)
    result = pycolmap.Reconstruction(output / "sparse" / "0")
    assert_same(result, refined[1].model, rtol=1e-6, atol=1e-6)
    assert sorted(p.name for p in output.iterdir()) == ["database.db", "points.ply", "sparse", "unrefined"]
    assert_same(pycolmap.Reconstruction(output / "unrefined" / "0"), model, rtol=0)
    database = pycolmap.Database.open(output / "database.db")
    for i, image in result.images.items():
        keypoints = database.read_keypoints(i)
        keypoints = np.array([[k.x, k.y] for k in keypoints]) if not isinstance(keypoints, np.ndarray) else keypoints
        np.testing.assert_allclose(keypoints[:, :2], [p.xy for p in image.points2D], atol=1e-4)
    database.close()
    counts = summary.counts
    assert (summary.stage, counts["models"], counts["registered"], counts["rounds"]) == ("refinement", 1, 5, 2)
    assert counts["points3D"] == result.num_points3D()
    assert counts["observations"] == result.compute_num_observations()
    assert counts["reprojection_error"] == pytest.approx(result.compute_mean_reprojection_error(), rel=1e-6)
    assert (counts["rejected"], counts["newly_registered"]) == (refined[1].num_rejected, 0)
    assert summary.skipped == LEFT_OUT[:1]  # the other one is registered
    colours = np.array([p.color for p in result.points3D.values()], np.float64)
    assert (colours[:, 0] == colours[:, 2]).all()
    assert colours[:, 0].std() > 10


def without(model, names):
    found = pycolmap.Reconstruction(model)
    drop_images(found, frozenset(names))
    return found


def test_a_model_that_another_has_grown_over_is_left_out(data, model, tmp_path, monkeypatch):
    refined = []

    def refine(refiner, start, scratch):  # registers what only the second model has
        refined.append(names_of(start))
        return Refined(without(model, NAMES[4:]), {})

    monkeypatch.setattr(R, "refine", refine)
    monkeypatch.setattr(R, "calibrate", lambda refiner, state: (state.model, ()))
    refiner = replace(refiner_of(data), mapping=MappingOptions(min_model_size=1))
    output = tmp_path / "out"
    for i, each in enumerate((without(model, NAMES[3:]), without(model, [NAMES[0], NAMES[4]]))):
        (output / "unrefined" / str(i)).mkdir(parents=True)
        each.write_binary(output / "unrefined" / str(i))
    left_out = (NAMES[3], "in another model (sparse/1)"), (NAMES[4], "no verified pair")
    summary = stage(refiner, output, left_out)
    assert refined == [set(NAMES[:3])]
    assert (summary.counts["models"], summary.counts["registered"]) == (1, 4)
    assert summary.skipped == ((NAMES[4], "no verified pair"),)


def test_the_model_of_most_images_is_the_first_after_refinement(data, model, tmp_path, monkeypatch):
    def refine(refiner, start, scratch):
        return Refined(pycolmap.Reconstruction(model) if names_of(start) == set(NAMES[3:]) else start, {})

    monkeypatch.setattr(R, "refine", refine)
    monkeypatch.setattr(R, "calibrate", lambda refiner, state: (state.model, ()))
    first, second = without(model, NAMES[3:]), without(model, NAMES[:3])
    found = R.refine_all(replace(refiner_of(data), mapping=MappingOptions(min_model_size=1)), [first, second], tmp_path)
    assert [each.model.num_reg_images() for each in found] == [len(NAMES)]


@pytest.mark.parametrize("case", ["--no-refine", "not refinable"])
def test_models_stay_without_refinement(data, model, tmp_path, case):
    refiner = {
        "--no-refine": refiner_of(data, options=RefinementOptions(no_refine=True)),
        "not refinable": refiner_of(replace(data, traits=MatcherTraits(refinable=False))),
    }[case]
    output = output_of(model, tmp_path, num=2)
    summary = stage(refiner, output)
    for i in range(2):
        assert_same(pycolmap.Reconstruction(output / "sparse" / str(i)), model, rtol=0)
        assert_database_is_of(output, model)  # whatever an earlier run with other options has left there
    assert (output / "points.ply").stat().st_size > 1000
    assert (summary.counts["models"], summary.counts["rounds"], summary.counts["moved_network_px"]) == (2, 0, 0)
    assert not (output / ".refinement").exists()


def test_a_killed_stage_goes_on_with_its_own_rounds_only(data, model, tmp_path, monkeypatch):
    """Killed after the first round: that is found again; with other options or another model it is not."""
    output = output_of(model, tmp_path)
    numbers = []
    next_round = Refiner.next_round

    def killed(self, before, scratch):
        numbers.append(before.rounds)
        if len(numbers) == 2:
            raise KeyboardInterrupt
        return replace(before, rounds=before.rounds + 1) if len(numbers) > 2 else next_round(self, before, scratch)

    monkeypatch.setattr(Refiner, "next_round", killed)
    with pytest.raises(KeyboardInterrupt):
        stage(refiner_of(data), output)
    assert not (output / "sparse").exists()
    kept = next((output / ".refinement").iterdir())
    assert (kept / "0" / "state" / "counts.json").is_file()
    assert R.scratch_folder(output, refiner_of(data)) == kept
    stage(refiner_of(data), output)
    assert numbers == [0, 1, *range(1, RefinementOptions().rounds)]
    assert not (output / ".refinement").exists()
    other = R.scratch_folder(output, refiner_of(data, options=RefinementOptions(align_size=800)))
    assert other != kept
    assert [p.name for p in other.parent.iterdir()] == [other.name]
    changed = pycolmap.Reconstruction(model)
    changed.delete_observation(1, 0)
    changed.write_binary(output / "unrefined" / "0")
    assert R.scratch_folder(output, refiner_of(data)) != kept
