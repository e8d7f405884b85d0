"""What an export is made from: a COLMAP model, its images, and the feature database of the run that made it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm.errors import BadFile, BadOption, MissingStage
from sfm.system.safe_paths import is_path, leads_out_anywhere, refuse_links

if TYPE_CHECKING:
    import pycolmap

    from sfm.storage.database import FeatureDatabase

MIN_SIZE = 16  # px


@dataclass(frozen=True, slots=True)
class ExportSource:
    """Where an export reads; what it does not ask for need not exist.

    model_dir: folder of a COLMAP model, binary or text. images: folder of the images that it was made from, None for
    the one that the run names. run: the output folder of a run, None for a model of somebody else's. masks: folder of
    their masks (black is left out), None for the one that the run was given. max_size: longer side of the images that
    are written, px; None leaves them as they are.
    """

    model_dir: Path
    images: Path | None = None
    run: Path | None = None
    masks: Path | None = None
    max_size: int | None = None

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size < MIN_SIZE:
            raise BadOption(f"--max-size {self.max_size}: must be at least {MIN_SIZE} px")

    @classmethod
    def of(cls, path: Path, number: int | None = None, **more: Any) -> ExportSource:
        """What is at a path: an output folder, OUT/sparse/N, or any COLMAP model; of several the one of a number, else
        the largest. more: further fields. Raises BadFile where there is nothing, BadOption for a number that is not
        there.
        """
        from sfm.colmap.model_reader import model_folder
        from sfm.results.model_source import output_folder

        run = output_folder(path)
        try:
            folder = model_folder(path, number)
        except BadFile:
            if run is None or number is not None:
                raise
            folder = run / "sparse" / "0"  # hloc's files need no model
        return cls(folder, run=run, **more)

    @classmethod
    def of_run(cls, run: Path, images: Path | None = None) -> ExportSource:
        """The largest model of a run's output folder. images: where they are now, None for where the run found them."""
        return cls(run / "sparse" / "0", images, run)

    def model(self) -> pycolmap.Reconstruction:
        """The model. BadFile when it cannot be read, is empty, or names an image outside its folder."""
        from sfm.colmap.model_reader import read_reconstruction

        model = read_reconstruction(self.model_dir)
        if not model.reg_image_ids():
            raise BadFile(f"{self.model_dir}: no registered image in this model; nothing to export")
        for image in registered_images(model):
            if leads_out_anywhere(image.name):
                raise BadFile(
                    f"{self.model_dir}: image {image.name!r} leads out of the image folder; this model is not trusted"
                )
        return model

    def images_dir(self) -> Path:
        """The folder of the images. BadFile where nothing names it, or it is not there."""
        from sfm.results.model_source import images_of

        folder = self.images or images_of(self.model_dir) or (images_of(self.run) if self.run is not None else None)
        if folder is None:
            raise BadFile(f"{self.model_dir}: the folder of its images is not known; give --images FOLDER")
        if not folder.is_dir():
            raise BadFile(f"{folder}: no such folder of images; give --images FOLDER, where they are now")
        return folder

    def masks_dir(self) -> Path | None:
        """The folder of the images' masks, None where there are none. BadFile where it is not there."""
        from sfm.results.model_source import record_of

        said = record_of(self.run or self.model_dir).get("options", {}).get("images", {}).get("masks")
        folder = self.masks or (Path(said) if isinstance(said, str) and is_path(said) else None)
        if folder is not None and not folder.is_dir():
            raise BadFile(f"{folder}: no such folder of masks; give --masks FOLDER, where they are now")
        return folder

    def database(self) -> FeatureDatabase:
        """The feature database, opened for reading; a context manager. BadFile where there is none."""
        from sfm.results.files import DATABASE
        from sfm.storage.database import FeatureDatabase

        if self.run is None:
            raise BadFile(f"{self.model_dir}: keypoints and matches are in the output folder of a run; give that")
        return FeatureDatabase.open(self.run / DATABASE, "r")

    def value_ranges(self) -> dict[str, tuple[float, float]]:
        """By the names of the images of more than 8 bits, the values that become black and white; none where no run
        says so."""
        if self.run is None:
            return {}
        try:
            with self.database() as db:
                return {one.name: one.value_range for one in db.read_images() if one.value_range is not None}
        except (BadFile, MissingStage):
            return {}


def default_folder(path: Path, source: ExportSource, format: str) -> Path:
    """Where an export of what is at a path goes: OUT/FORMAT, of another model than the first OUT/FORMAT_N.

    Raises BadFile where a link of that name leads away.
    """
    from sfm.results.model_source import is_first

    number = "" if is_first(source.model_dir) else f"_{source.model_dir.name}"
    folder = (source.run or path) / f"{format}{number}"
    refuse_links(folder.parent, [folder.name])
    return folder


GL_FROM_CV = np.diag([1.0, -1, -1, 1])  # OpenGL cameras look along -z, y up


def registered_images(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """Registered images by name."""
    return sorted((model.images[i] for i in model.reg_image_ids()), key=lambda image: image.name)


def camera_of(image: pycolmap.Image) -> pycolmap.Camera:
    """The camera of an image."""
    camera = image.camera
    assert camera is not None  # every image of a model that was read has one
    return camera


def size_of(image: pycolmap.Image) -> tuple[int, int]:
    """Width and height, px, upright."""
    return camera_of(image).width, camera_of(image).height


def protect_images(images_dir: Path, written: Path) -> None:
    """BadOption when writing into `written` could overwrite one of the images."""
    source, target = images_dir.resolve(), written.resolve()
    if source == target or target in source.parents or (source in target.parents and not _beside_results(target)):
        raise BadOption(f"{written}: overlaps the images in {images_dir}; give another output folder")


def _beside_results(written: Path) -> bool:
    """Whether OUT/FORMAT/images is written in the output folder of a run, where no images are searched."""
    return (written.parent.parent / "features.h5").is_file() and not any(written.parent.glob("*.jpg"))


def refuse_white_space(images: Iterable[pycolmap.Image], format: str) -> None:
    """BadFile for a name that readers of the format would end at its first white space."""
    for image in images:
        if any(c.isspace() for c in image.name):
            raise BadFile(
                f"image name {image.name!r}: {format} cannot hold white space; rename it or use another format"
            )
