"""Nothing is written through a link that leads out of the folder of results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.colmap.model_reader import read_reconstruction
from sfm.datasets import imc2022
from sfm.errors import BadFile, SfMError
from sfm.evaluation.result_log import ResultLog
from sfm.export.registry import export
from sfm.export.source import ExportSource
from sfm.options import Options
from sfm.pipeline.output_folder import WRITTEN
from sfm.pipeline.run import reconstruct
from sfm.report.html import write_page
from sfm.report.run import write_report
from sfm.storage.database import FeatureDatabase
from sfm.system.safe_paths import leads_out, leads_out_anywhere, refuse_links
from sfm.system.tables import write_json
from tests.support.hostile_readers import READERS

PRECIOUS = b"do not touch"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of somebody's, outside of every folder that is written into."""
    path = tmp_path / "home" / "victim"
    path.parent.mkdir()
    path.write_bytes(PRECIOUS)
    return path


def laid(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


@pytest.mark.parametrize("name", [*WRITTEN, "sparse/0", "sparse/0/images.bin", ".refinement/state/counts.json"])
@pytest.mark.parametrize("to", ["file", "folder", "nothing"])
def test_a_run_refuses_links_in_its_folder(name: str, to: str, tmp_path: Path, victim: Path) -> None:
    images, out = tmp_path / "photos", tmp_path / "out"
    images.mkdir()
    laid(out / name, {"file": victim, "folder": victim.parent, "nothing": victim.with_name("new")}[to])
    with pytest.raises(BadFile, match="a link out of"):
        reconstruct(images, out, Options())
    assert victim.read_bytes() == PRECIOUS
    assert list(victim.parent.iterdir()) == [victim]


def images_of(folder: Path, model: Path) -> Path:
    for name in ("a.jpg", "b/c.jpg", "b/e.jpg", "f.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((240, 320, 3), 99, np.uint8)).save(folder / name)
    return folder


EXPORTS = {
    "ply": ("points3D.ply",),
    "text": ("cameras.txt", "images.txt", "points3D.txt", "rigs.txt", "frames.txt"),
    "nvm": ("model.nvm",),
    "bundler": ("bundle.out", "list.txt"),
    "nerfstudio": ("transforms.json", "images", "images/a.jpg", "images/b", "sparse_pc.ply"),
    "undistorted": ("images", "images/a.jpg", "sparse", "sparse/0", "sparse/cameras.bin", "stereo"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in EXPORTS.items() for name in names])
def test_exports_refuse_links(kind: str, name: str, tmp_path: Path, victim: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    READERS["model-binary"].make(model)
    images = images_of(tmp_path / "photos", model)
    laid(tmp_path / "out" / name, victim if "." in name else victim.parent)
    with pytest.raises(BadFile, match="a link out of"):
        export(ExportSource(model, images), tmp_path / "out", kind)
    assert victim.read_bytes() == PRECIOUS
    assert list(victim.parent.iterdir()) == [victim]


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "report": ("report.html", write_report),
    "report, half": ("report.html.part", write_report),
    "hloc": ("features.h5", lambda out: export(ExportSource.of_run(out.parent), out, "hloc")),
    "hloc's matches": ("matches.h5", lambda out: export(ExportSource.of_run(out.parent), out, "hloc")),
    "hloc, half": ("features.h5.new", lambda out: export(ExportSource.of_run(out.parent), out, "hloc")),
    "hloc's pairs": ("pairs.txt", lambda out: export(ExportSource.of_run(out.parent), out, "hloc")),
    "page": ("p.html.part", lambda out: write_page(out / "p.html", "x")),
    "figures": ("model.json.part", lambda out: write_json(out / "model.json", {"a": 1})),
    "results": ("pairs.jsonl", lambda out: ResultLog(out / "pairs.jsonl").append({"x": {"id": "x"}})),
    "submission": ("s.csv.part", lambda out: imc2022.write_submission(out / "s.csv", {"x;1": None})),
    "database": ("features.h5", lambda out: FeatureDatabase.open(out / "features.h5").close()),
    "journal": ("features.h5.journal", lambda out: FeatureDatabase.open(out / "features.h5").close()),
    "lock": ("features.h5.lock", lambda out: FeatureDatabase.open(out / "features.h5").close()),
    "new database": ("features.h5.new", lambda out: FeatureDatabase.open(out / "features.h5").close()),
}


@pytest.mark.parametrize("case", WRITERS)
def test_other_writers_replace_or_refuse_links(case: str, tmp_path: Path, victim: Path) -> None:
    name, write = WRITERS[case]
    if case.startswith("hloc"):
        READERS["database"].make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    if case.startswith("report"):
        READERS["run-json"].make(out)
    laid(out / name, victim)
    with suppress(SfMError):
        write(out)
    assert victim.read_bytes() == PRECIOUS
    assert list(victim.parent.iterdir()) == [victim]


def test_a_data_set_takes_no_image_from_elsewhere(tmp_path: Path, victim: Path) -> None:
    READERS["model-binary"].make(tmp_path)
    path = tmp_path / "images.bin"
    path.write_bytes(path.read_bytes().replace(b"a.jpg\0", b"../home/victim\0"))
    with pytest.raises(BadFile, match="leads out"):
        imc2022.write_scene(read_reconstruction(tmp_path), tmp_path / "photos", tmp_path / "out", "s")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", ".", "/x", "../x", "a/../b", "..", "a\0b"])
def test_names_that_lead_out(name: str) -> None:
    assert leads_out(name)
    assert leads_out_anywhere(name)


@pytest.mark.parametrize("name", ["..\\x", "C:x", "C:\\x", "\\\\host\\x", "a\nb"])
def test_names_that_lead_out_elsewhere(name: str) -> None:
    assert leads_out_anywhere(name)


@pytest.mark.parametrize("name", ["x", "a/b.jpg", "..x", "a..b/c", "-x", "a b", "ä/ö.jpg", "12:30.jpg"])
def test_names_that_stay(name: str) -> None:
    assert not leads_out(name)
    assert not leads_out_anywhere(name)


def test_links_within_the_folder_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to(tmp_path / "c")  # to itself: within
    refuse = partial(refuse_links, tmp_path)
    refuse(["a", "b", "nothing"])
