"""Mappers are chosen by name; a run gives them a database and sorts their models."""

from dataclasses import replace

import pycolmap
import pytest

from sfm.colmap.log import FATAL
from sfm.errors import BadOption
from sfm.mapping import registry as R
from sfm.mapping.inputs import Attempt
from sfm.mapping.retry_strategy import STRATEGIES
from sfm.registry import Entry, Registry
from tests.support.mapping_scene import NAMES, OPTIONS


def test_a_mapper_of_another_package_gets_a_database_and_its_models_are_sorted(
    mapped, mapping_data, tmp_path, monkeypatch
):
    whole = mapped[1].models[0]
    part = pycolmap.Reconstruction(whole)
    part.deregister_frame(part.images[1].frame_id)
    seen, levels, before = [], [], pycolmap.logging.minloglevel

    def mapper(attempt, options, folder):
        database = pycolmap.Database.open(folder / "database.db")
        seen.extend(image.name for image in database.read_all_images())
        database.close()
        levels.append(pycolmap.logging.minloglevel)
        return [part, whole]

    entries = {**R.MAPPERS.built_in, "ours": Entry("a test", mapper)}
    monkeypatch.setattr(R, "MAPPERS", Registry("--mapper", "loftr_sfm.mappers", entries))
    attempt = Attempt("default", STRATEGIES[0], mapping_data)
    assert R.run_mapper(attempt, replace(OPTIONS, mapper="ours"), tmp_path / "run") == [whole, part]
    assert seen == [*NAMES, "zzz.jpg"]
    assert levels == [FATAL]  # COLMAP's log is left out, whoever calls COLMAP
    assert pycolmap.logging.minloglevel == before


def test_unknown_mappers_are_refused_by_name(mapping_data, tmp_path):
    attempt = Attempt("default", STRATEGIES[0], mapping_data)
    with pytest.raises(BadOption, match="--mapper magic: choose one of incremental, global"):
        R.run_mapper(attempt, replace(OPTIONS, mapper="magic"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
