"""COLMAP's database is written, never read: one that lies in the way is replaced, and what it holds does not matter."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from sfm.colmap.database import write_colmap_database
from sfm.types import CameraPrior, ImagePair, ImageRecord, KeypointMatches, Keypoints, TwoViewGeometry


def written(path: Path) -> None:
    camera = CameraPrior("SIMPLE_PINHOLE", np.array([300.0, 160, 120]), True, "one")
    images = [ImageRecord(name, 320, 240, camera, "") for name in ("a.jpg", "b.jpg")]
    keypoints = [Keypoints(np.ones((8, 2), np.float32), np.ones(8, np.float32))] * 2
    pair, rows = ImagePair("a.jpg", "b.jpg"), np.arange(8, dtype=np.uint32)
    geometry = TwoViewGeometry(pair, rows, "calibrated", np.eye(3, 4), np.eye(3))
    matches = KeypointMatches(pair, np.stack([rows, rows], axis=1), np.ones(8, np.float32))
    write_colmap_database(path, images, keypoints, [geometry], [matches])


def hostile(path: Path) -> None:
    """Views where tables belong, triggers, and a declared schema that is none."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE VIEW cameras AS SELECT 1 AS camera_id")
        database.execute("CREATE TABLE images (image_id TEXT, name BLOB)")
        database.execute("CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM images; END")
        database.execute("PRAGMA user_version = 2147483647")


@pytest.mark.parametrize("what", ["hostile", "garbage", "link", "journals"])
def test_what_lies_in_the_way_is_replaced(what: str, tmp_path: Path) -> None:
    path, victim = tmp_path / "database.db", tmp_path / "victim"
    victim.write_bytes(b"do not touch")
    if what == "hostile":
        hostile(path)
    elif what == "link":
        path.symlink_to(victim)
    else:
        path.write_bytes(b"SQLite format 3\0" + bytes(range(256)))
    for suffix in ("-wal", "-shm", "-journal") if what == "journals" else ():
        path.with_name(path.name + suffix).write_bytes(b"\x37\x7f\x06\x82" + bytes(4096))
    written(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM images ORDER BY image_id").fetchall() == [("a.jpg",), ("b.jpg",)]
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone() == (
            0,
        )
        assert database.execute("SELECT rows FROM two_view_geometries").fetchone() == (8,)
    assert victim.read_bytes() == b"do not touch"
