"""The page of a COLMAP model that no run made, or of a run's other models: what the model itself says.

No matches are known of it, and it was not checked; the rest is as in the report of a run (sfm.report.run).
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from sfm.colmap.model_reader import model_folder, read_reconstruction
from sfm.drawing.scene import scene_of, upright
from sfm.errors import BadFile
from sfm.evaluation.model import ModelStatistics, model_statistics
from sfm.report import parts
from sfm.report.html import key_of, page, write_page
from sfm.report.parts import PageImages
from sfm.report.run import Run, report_document, write_report
from sfm.results.files import REFINE_JSON, REPORT
from sfm.results.model_source import images_of, is_first, output_folder, record_of

OURS = b"loftr-sfm-key"  # near the beginning of every page of ours


def write_any_report(path: Path, number: int | None = None, images: Path | None = None) -> Path:
    """Writes the page of what is at a path: of a run's largest model the run's report, of any other model report.html
    in its folder, or OUT/report_N.html of a run's model N. images: the images' folder, where it has moved.

    Returns the page's path. Raises BadFile where there is no model, or the page cannot be written; BadOption for a
    number that is not there.
    """
    out = output_folder(path)
    if out is not None and (number == 0 or number is None) and is_first(path):
        return write_report(out, images)
    folder = model_folder(path, number)
    run = read_model(folder, images or images_of(folder))
    refined = output_folder(folder, REFINE_JSON)
    page_path = (refined or path) / REPORT if out is None else out / f"report_{folder.name}.html"
    _refuse_foreign(page_path)
    document = model_document(run, folder)
    write_page(page_path, page(document, "report.js", key_of(document["heading"]), parts.still_url([_scene(run)])))
    return page_path


def read_model(folder: Path, images: Path | None) -> Run:
    """A model as a run's report has it. images: the folder of its images, None where it is not known."""
    model = read_reconstruction(folder)
    if not model.num_reg_images():
        raise BadFile(f"{folder}: no registered image in this model; there is nothing to show")
    figures = model_statistics(model)
    scene = upright(scene_of(model, _title(folder)))
    sizes = {n: (int(w), int(h)) for n, (w, h) in zip(scene.cameras.names, scene.cameras.size, strict=True)}
    known = images if images is not None and images.is_dir() else None
    record = _figures(figures) | {
        "images_folder": str(images) if images is not None else folder.resolve().name,
        "models": [{"path": str(folder), "images": figures.registered}],
        "stages": [],
    }
    return Run(folder, record, PageImages(tuple(sorted(sizes)), sizes, known), {}, {}, scene, {})


def _figures(own: ModelStatistics) -> dict[str, Any]:
    return {
        "images": own.registered,
        "registered": own.registered,
        "points3D": own.points3D,
        "observations": own.observations,
        "mean_track_length": own.track_length if own.points3D else 0.0,
        "mean_reprojection_error_px": own.reprojection_error if own.points3D else 0.0,
    }


def _title(folder: Path) -> str:
    whole = folder.resolve()
    named = whole.parent.parent if whole.parent.name == "sparse" else whole
    return f"{named.name} {whole.name}" if named != whole else named.name or "model"


def model_document(run: Run, folder: Path) -> dict[str, Any]:
    """The page as values that JSON holds."""
    document, record = report_document(run, {}), run.record
    whole = record_of(folder)
    origin = "one of a run's models" if whole else "a COLMAP model"
    kept = [tile for tile in document["tiles"] if not tile[0].startswith("time")]
    remarks = [line for line in document["remarks"] if not line.startswith(("matched by", "no thumbnails"))]
    if not document["images"]["thumbnails"]:
        remarks.append("no thumbnails: the folder of its images is not known; give --images FOLDER")
    return document | {
        "title": f"{_scene(run).title} · loftr-sfm report",
        "heading": _scene(run).title,
        "verdict": {
            "level": "plain",
            "label": "Model",
            "sentence": f"{folder}: {origin}, of {record['registered']:,} images and {record['points3D']:,} points. "
            "Its figures are shown; whether it is right was not checked.",
            "problems": [],
        },
        "tiles": [["images", f"{record['registered']:,}"], *kept[1:]],
        "next": _steps(folder, run.images.folder),
        "remarks": remarks,
        "run": None,
    }


def _scene(run: Run) -> Any:
    assert run.scene is not None
    return run.scene


def _steps(folder: Path, images: Path | None) -> list[dict[str, str]]:
    here = shlex.quote(str(folder.resolve()))
    given = f" --images {shlex.quote(str(images.resolve()))}" if images is not None else ""
    found = [{"command": f"loftr-sfm view {here}", "what": "The model in a window"}]
    if images is not None:
        if not record_of(folder) and output_folder(folder, REFINE_JSON) is None:
            whole, pictures = folder.resolve(), shlex.quote(str(images.resolve()))
            refined = shlex.quote(f"{whole.parent.parent if whole.parent.name == 'sparse' else whole}-refined")
            command = f"loftr-sfm refine {here} {pictures} {refined}"
            found.append({"command": command, "what": "Its tracks made sub-pixel"})
        found.append({"command": f"loftr-sfm export {here} undistorted{given}", "what": "For Gaussian splatting, MVS"})
    return found


def _refuse_foreign(path: Path) -> None:
    """BadFile where a file of another origin would be overwritten."""
    if path.is_file() and OURS not in path.read_bytes()[:4096]:
        raise BadFile(f"{path}: is a page of something else; move it away")
