"""A driver on its own, to be killed: `python -m tests.support.ray_driver ADDRESS IMAGES OUT TALLY DELAY`.

Matches all pairs of numbered images by a SlowMatcher on a cluster, into OUT/features.h5, and goes on from what is
there.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

from sfm.cluster.cluster import Cluster
from sfm.cluster.session import ClusterSession, ImageStore
from sfm.images.index import read_images_index
from sfm.matching.stage import run
from sfm.options import ImageOptions, MatchingOptions
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair
from tests.support.ray_cluster import SlowMatcher, SlowRecipe

OPTIONS = MatchingOptions(turns="off")


def drive(address: str, folder: Path, out: Path, tally: str, delay: float) -> int:
    """The pairs that were reused."""
    records, _ = read_images_index(folder, ImageOptions())
    matcher = SlowMatcher(delay=delay, tally=tally)
    with FeatureDatabase.open(out / "features.h5") as db, Cluster(address, device="cpu") as cluster:
        db.write_images(records)
        names = [record.name for record in records]
        db.write_pairs([ImagePair(*pair) for pair in combinations(names, 2)])
        summary = run(
            db,
            matcher,
            folder,
            OPTIONS,
            make_session=lambda _, known: ClusterSession(
                cluster, SlowRecipe(matcher), OPTIONS, ImageStore(folder, known, None, cluster.budget)
            ),
        )
    return int(summary.counts["reused"])


if __name__ == "__main__":
    address, folder, out, tally, delay = sys.argv[1:]
    print(drive(address, Path(folder), Path(out), tally, float(delay)))
