from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sfm.images.stage import run
from sfm.options import ImageOptions
from sfm.types import ImageRecord
from tests.support.folders import ROOT


def test_run_writes_the_records_and_counts(folder: Path) -> None:
    class Store:
        records: tuple[ImageRecord, ...] = ()

        def write_images(self, records: object) -> None:
            self.records = tuple(records)  # type: ignore[arg-type]

        def write_copies(self, copies: Mapping[str, str]) -> None:
            self.copies = dict(copies)

    (folder / "empty.jpg").touch()
    (folder / "copy.png").write_bytes((folder / "b.png").read_bytes())
    store = Store()
    summary = run(store, folder, ImageOptions())
    assert [record.name for record in store.records] == ["a.jpg", "b.png"]
    assert summary.counts == {"images": 2, "skipped": 1, "cameras": 1, "focal_priors": 0, "copies": 1}
    assert store.copies == {"copy.png": "b.png"}
    assert summary.skipped == (("empty.jpg", "the file is empty"),)


def test_pillow_writes_png_after_pycolmap_was_loaded_through_us() -> None:
    """Needs zlib to be loaded before pycolmap, or the process aborts (see sfm/__init__.py)."""
    code = (
        "import sfm, pycolmap, io; from PIL import Image\n"
        "for _ in range(5): Image.effect_noise((64, 48), 50).save(io.BytesIO(), 'PNG')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
