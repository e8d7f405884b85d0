"""What an export is made from: a COLMAP model, its images, and the feature database of the run that made it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm.errors import BadFile, BadOption, MissingStage
from sfm.system.safe_paths import leads_out_anywhere

if TYPE_CHECKING:
    import pycolmap

    from sfm.storage.database import FeatureDatabase


@dataclass(frozen=True, slots=True)
class ExportSource:
    """Where an export reads; what it does not ask for need not exist.

    model_dir: folder of a COLMAP model, binary or text. images: folder of the images that it was made from, None for
    the one that the run names. run: the output folder of a run, None for a model of somebody else's.
    """

    model_dir: Path
    images: Path | None = None
    run: Path | None = None

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
        """The folder of the images. BadFile where nothing names it."""
        from sfm.results.run_json import images_folder

        if self.images is not None:
            return self.images
        if self.run is None:
            raise BadFile(f"{self.model_dir}: the folder of its images is not known; give it")
        return images_folder(self.run)

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
