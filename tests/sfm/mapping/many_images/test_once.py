"""once: many images are mapped once; those that are missing are added to what is there."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.geometry.similarity import fit_similarity
from sfm.mapping import stage
from sfm.mapping.inputs import Attempt, write_database
from sfm.mapping.many_images import once
from sfm.mapping.many_images.once import GROUP
from sfm.mapping.many_images.part import PART
from sfm.mapping.retry_strategy import STRATEGIES
from sfm.options import MappingOptions
from tests.support.corridor import FOCAL, STEP, walk

NUM = 150
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A walk, what mapping made of it, and of each of COLMAP's mappings whether it went on from a model, and the images
    of its first model."""
    runs, original = [], pycolmap.incremental_mapping

    def counted(*args, input_path="", **kwargs):
        models = original(*args, input_path=input_path, **kwargs)
        runs.append((bool(input_path), max(model.num_reg_images() for model in models.values())))
        return models

    truth = walk(NUM, per_image=300, false_pairs=0.06, has_focal_prior=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pycolmap, "incremental_mapping", counted)
        found = stage.reconstruct(truth.data, MappingOptions(threads=1), tmp_path_factory.mktemp("walk"))
    return truth, found, runs


def test_all_images_are_registered_with_one_mapping_of_them(mapped):
    _, found, runs = mapped
    assert found.models[0].num_reg_images() == NUM
    assert found.left_out == {}
    from_the_beginning = [num for goes_on, num in runs if not goes_on]
    assert from_the_beginning == [PART]
    assert len(runs) <= 4


def centre_errors(model, truth):
    """Metres (I,), after a similarity."""
    ids = sorted(model.reg_image_ids())
    assert [model.images[i].name for i in ids] == [record.name for record in truth.data.images]
    centres = np.array([model.images[i].projection_center() for i in ids])
    true = -np.einsum("nij,ni->nj", truth.poses[:, :, :3], truth.poses[:, :, 3])
    return np.linalg.norm(fit_similarity(centres, true)(centres) - true, axis=1)


def test_cameras_are_where_they_were_and_the_walk_closes(mapped):
    truth, found, _ = mapped
    model = found.models[0]
    assert np.sqrt((centre_errors(model, truth) ** 2).mean()) < 0.2 * STEP
    assert abs(model.cameras[1].mean_focal_length() / FOCAL - 1) < 0.01


def test_false_pairs_are_no_part_of_the_model(mapped):
    truth, found, _ = mapped
    false = [g.pair for g in truth.data.geometries if np.linalg.matrix_rank(g.F, tol=1e-9) == 3]
    assert len(false) >= 3
    model = found.models[0]
    seen = {image.name: {p.point3D_id for p in image.points2D if p.has_point3D()} for image in model.images.values()}
    assert all(len(seen[pair.name0] & seen[pair.name1]) <= 3 for pair in false)


def test_a_group_in_a_wrong_place_is_mapped_by_itself_and_the_others_are_registered_in_that(
    mapped, tmp_path, monkeypatch
):
    truth, found, _ = mapped
    group = {f"{i:05d}.jpg" for i in range(40, 40 + GROUP + 5)}
    wrong = pycolmap.Reconstruction(found.models[0])
    moved = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 0.3, 0.0])), np.array([1.0, 0.0, 2.0]))
    for image in list(wrong.images.values()):
        if image.name in group:
            wrong.frame(image.frame_id).rig_from_world = image.cam_from_world() * moved
    mapped_alone = []

    def run_mapper(attempt, options, folder):
        if folder.name == "all":
            folder.mkdir()
            write_database(folder / "database.db", attempt.data)
            return [wrong]
        mapped_alone.append({name for own in attempt.data.matches for name in (own.pair.name0, own.pair.name1)})
        return original(attempt, options, folder)

    original = once.run_mapper
    monkeypatch.setattr(once, "run_mapper", run_mapper)
    monkeypatch.setattr(once, "_start", lambda data, *_: (Attempt(STRATEGIES[0].name, STRATEGIES[0], data), None))
    outcome = once.map_once(found.data, MappingOptions(threads=1).for_images(NUM), tmp_path)
    assert mapped_alone == [group]
    assert outcome.misregistered == frozenset()
    assert np.sqrt((centre_errors(outcome.models[0], truth) ** 2).mean()) < 0.2 * STEP
    assert not group & {wrong.images[i].name for model in outcome.models[1:] for i in model.reg_image_ids()}
