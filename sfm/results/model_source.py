"""Whose model is at a path, of a run (OUT, OUT/sparse/N), of refine, or of COLMAP, and where its images are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sfm.colmap.model_writer import UNREFINED
from sfm.errors import BadFile
from sfm.results.files import REFINE_JSON, RUN_JSON
from sfm.results.run_json import FIGURES, read_run_json
from sfm.system.safe_paths import is_path
from sfm.system.untrusted_files import read_json

OF_FIRST = (*FIGURES, "unregistered", "warnings", "doubts", "error")  # what run.json says of the largest model alone
FOLDERS = ("sparse", UNREFINED)  # of models, in an output folder


def output_folder(path: Path, record: str = RUN_JSON) -> Path | None:
    """The output folder that a path is, or that a path in its sparse/ belongs to; None for a model of other origin.

    record: the file that output folders have.
    """
    whole = path if path.name not in ("", "..") else path.resolve()
    candidates = [whole]
    if whole.name in FOLDERS:
        candidates.append(whole.parent)
    if whole.parent.name in FOLDERS:
        candidates.append(whole.parent.parent)
    return next((folder for folder in candidates if (folder / record).is_file()), None)


def is_first(path: Path) -> bool:
    """Whether a path means the first model of an output folder, the largest, and no other."""
    return path.parent.name not in FOLDERS or path.name in ("0", *FOLDERS)


def record_of(path: Path) -> Mapping[str, Any]:
    """The run.json of the run that made the model at a path, without what it says of another model.

    Empty for a model that is no run's. Raises BadFile where it is damaged.
    """
    out = output_folder(path)
    if out is None:
        return MappingProxyType({})
    record = read_run_json(out)
    return record if is_first(path) else {name: value for name, value in record.items() if name not in OF_FIRST}


def images_of(path: Path) -> Path | None:
    """The folder of a model's images: as the run or refine that made it says, else images/ beside COLMAP's sparse/.

    None where nothing says so. Raises BadFile where a run.json is damaged.
    """
    said = record_of(path).get("images_folder")
    refined = output_folder(path, REFINE_JSON)
    if said is None and refined is not None:
        said = _refined_images(refined)
    if isinstance(said, str) and said:
        return Path(said)
    whole = path.resolve()
    beside = [
        folder / "images" for folder in (whole, whole.parent, whole.parent.parent) if (folder / "sparse").is_dir()
    ]
    return next((folder for folder in beside if folder.is_dir()), None)


def _refined_images(out: Path) -> str | None:
    try:
        said = read_json(out / REFINE_JSON).get("images_folder")
        return said if isinstance(said, str) and is_path(said) else None
    except (OSError, ValueError, TypeError, AttributeError):
        raise BadFile(f"{out / REFINE_JSON}: damaged; refine again, or give --images FOLDER") from None
