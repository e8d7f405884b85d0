"""Pairs of places that look alike: refused from matches to models, trusted by a file, and begun anew."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.mapping import stage as mapping
from sfm.options import MappingOptions, Options
from sfm.pipeline.alike_pairs import build_tracks_without, check_trusted, trusted_digest, trusted_pairs
from sfm.storage.database import FeatureDatabase
from sfm.tracks import stage as tracks
from sfm.types import ImagePair, Matches, StageSummary
from tests.support.alike_scene import alike_places


@pytest.fixture(scope="module")
def places():
    return alike_places()


@pytest.fixture
def run(places, tmp_path):
    """A run whose tracks are finished."""
    data = places.data
    xy = {record.name: own.xy for record, own in zip(data.images, data.keypoints, strict=True)}
    with FeatureDatabase.open(tmp_path / "features.h5") as db:
        db.write_images(data.images)
        db.write_grids(dict.fromkeys(xy, None), traits=data.traits)
        found = []
        for own in data.matches:
            rows0, rows1 = own.indices.astype(np.int64).T
            points = xy[own.pair.name0][rows0], xy[own.pair.name1][rows1]
            found.append((own.pair, Matches(*points, np.ones(len(rows0)), rows0, rows1)))
        db.write_pairs([pair for pair, _ in found])
        db.write_matches(found, matcher_key="exact")
        db.use_matcher("exact")
        db.write_two_view(data.geometries)
        tracks.run(db, Options().tracks)
        db.commit("tracks", fingerprint="f", provenance={}, summary=StageSummary("tracks", {}, 0.0))
        yield SimpleNamespace(db=db, options=Options(), out=tmp_path)


def _mapped(run, trusted):
    return mapping.run(
        run.db,
        MappingOptions(),
        output=run.out,
        trusted=trusted,
        build_tracks=lambda refused: build_tracks_without(run, refused),
    )


def test_refused_pairs_are_in_the_database_the_counts_and_a_note_and_in_no_track(run, places):
    summary = _mapped(run, frozenset())
    assert summary.counts["models"] == 2
    assert summary.counts["registered"] == 6
    assert summary.counts["pairs_refused"] == len(places.across) == 36
    assert any("36 pairs of 12 images were refused" in note for note in summary.notes)
    assert {each.pair for each in run.db.read_refused()} == places.across
    assert max(each.through for each in run.db.read_refused()) > 10
    assert not {m.pair for m in run.db.read_keypoint_matches()} & places.across
    assert run.db.fingerprint("tracks") == "f"
    assert {g.pair for g in run.db.read_two_view()} >= places.across


def test_trusted_pairs_fold_the_places_again_from_all_tracks(run, places):
    _mapped(run, frozenset())
    for trusted in (places.across, None):
        summary = _mapped(run, trusted)
        assert summary.counts["registered"] == 12
        assert "pairs_refused" not in summary.counts
        assert not any("refused" in note for note in summary.notes)
        assert run.db.read_refused() == ()
        assert {m.pair for m in run.db.read_keypoint_matches()} >= places.across


def _given(run, value):
    run.options = Options.of(trust_pairs=value)
    return run


def test_file_of_trusted_pairs(run, tmp_path):
    file = tmp_path / "trusted.txt"
    file.write_text("b01.jpg a00.jpg\n\na00.jpg b02.jpg\n")
    pairs = {ImagePair("a00.jpg", "b01.jpg"), ImagePair("a00.jpg", "b02.jpg")}
    assert trusted_pairs(_given(run, file)) == pairs
    assert trusted_digest(run) == [["a00.jpg", "b01.jpg"], ["a00.jpg", "b02.jpg"]]
    assert trusted_pairs(_given(run, "all")) is None
    assert trusted_digest(run) == [["all"]]
    assert trusted_pairs(_given(run, None)) == frozenset()
    assert trusted_digest(run) == []


def test_bad_files_of_trusted_pairs_are_said_in_a_line(run, tmp_path):
    with pytest.raises(BadFile, match=r"--trust-pairs .*no\.txt: no such file; give one with two image names"):
        check_trusted(str(tmp_path / "no.txt"))
    check_trusted("all")
    check_trusted(None)
    file = tmp_path / "trusted.txt"
    file.write_text("a00.jpg c00.jpg\n")
    check_trusted(str(file))
    with pytest.raises(BadFile, match=r"trusted\.txt, line 1: no image 'c00\.jpg' in the folder"):
        trusted_pairs(_given(run, file))
