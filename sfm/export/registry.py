"""The formats that `loftr-sfm export` writes: to add one, write its file here and a line in EXPORTS.

An export is a function `(source: ExportSource, dest: Path) -> Path`. It reads from the source what it needs (the model,
the images, the feature database), writes into the folder `dest`, which exists, and returns the file or folder to open.
Nothing is written through a link: it calls refuse_links(dest, names) with the names of what it will write. It raises
BadFile, BadImage or BadOption for what the user can correct, and may let OSError pass.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from sfm.errors import BadFile
from sfm.export.source import ExportSource
from sfm.registry import Entry, Registry

Export = Callable[[ExportSource, Path], Path]


def _function(module: str, name: str) -> Export:
    """A function of a module of this package that is imported when it is called: `--help` loads none of them."""

    def call(source: ExportSource, dest: Path) -> Path:
        export: Export = getattr(import_module(f"sfm.export.{module}"), name)
        return export(source, dest)

    return call


EXPORTS: Registry[Export] = Registry(
    "format",
    "loftr_sfm.exports",
    {
        "nerfstudio": Entry(
            "transforms.json and upright images, for NeRFs and splats", _function("nerfstudio", "nerfstudio")
        ),
        "undistorted": Entry(
            "COLMAP folder with pinhole images, for Gaussian splatting and MVS",
            _function("undistorted", "undistorted"),
        ),
        "ply": Entry("coloured points, for MeshLab, CloudCompare, Blender", _function("ply", "ply")),
        "text": Entry("COLMAP's text files", _function("text", "text")),
        "nvm": Entry("VisualSFM's NVM_V3", _function("nvm", "nvm")),
        "bundler": Entry("bundle.out v0.3 and list.txt", _function("bundler", "bundler")),
        "geo": Entry(
            "table (CSV) and map (GeoJSON) of the cameras' places, of models with GPS", _function("geo", "geo")
        ),
        "hloc": Entry("feature, match and pair files of hloc", _function("hloc", "hloc")),
    },
)


def export(source: ExportSource, dest: Path, format: str) -> Path:
    """Writes what `source` holds as `format`, a name of EXPORTS, into the folder `dest`; returns what to open.

    Raises BadFile for a model or a folder, BadImage for an image that cannot be used, BadOption for an unknown format
    and for a `dest` that would overwrite the images.
    """
    write, _ = EXPORTS.choose(format)
    if dest.exists() and not dest.is_dir():
        raise BadFile(f"{dest}: is a file; give a folder for the export")
    try:
        dest.mkdir(parents=True, exist_ok=True)
        return write(source, dest)
    except OSError as error:
        raise BadFile(
            f"{error.filename or dest}: {error.strerror or error}; check the path, space and rights"
        ) from error
