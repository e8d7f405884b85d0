"""What pages hold, read as a browser reads it, and pages of large runs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from sfm.report import parts as report_parts
from sfm.report.html import page
from sfm.report.run import Run, report_document, report_key
from sfm.types import ImagePair, TwoViewGeometry
from tests.support.finished_run import images_of, large_scene, some_matches


def embedded(text: str) -> dict[str, Any]:
    """The values inside a page, found as a browser finds them: up to the first end of a script."""
    start = '<script type="application/json" id="document">'
    assert text.count(start) == 1
    value: dict[str, Any] = json.loads(text.partition(start)[2].partition("</script")[0])
    return value


def unpack(packed: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["data"]), "<" + packed["type"]).reshape(packed["shape"])


def large_run(tmp_path: Path, num: int, reach: int) -> Run:
    """A run of many images, each matched with the next `reach`."""
    scene = large_scene(num, num_points=400_000, per_camera=2000)
    images = images_of(scene, tmp_path / "images", num_files=12)
    names = scene.cameras.names
    counts = {ImagePair(names[i], names[j]): 500 for i in range(num) for j in range(i + 1, min(num, i + 1 + reach))}
    geometries = {pair: TwoViewGeometry(pair, np.arange(i % 400), "calibrated") for i, pair in enumerate(counts)}
    record = {
        "images": num,
        "registered": num,
        "points3D": 400_000,
        "observations": 2000 * num,
        "mean_track_length": 4.0,
        "mean_reprojection_error_px": 0.6,
        "stages": [],
        "images_folder": str(tmp_path / "images"),
        "models": [],
    }
    return Run(tmp_path, record, images, counts, geometries, scene, {})


def large_page(run: Run) -> tuple[dict[str, Any], str]:
    chosen = report_parts.pairs_to_draw(run.counts, run.geometries)
    made = report_document(run, {pair: some_matches(0, 500) for _, pair in chosen})
    return made, page(made, "report.js", report_key(run.record, run.out))
