"""The layout of the Image Matching Challenge 2022: reading it, and writing it from COLMAP models.

    train/scaling_factors.csv           scene, scaling_factor: metres per unit of the scene's translations
    train/SCENE/calibration.csv         image_id, camera_intrinsics (K), rotation_matrix, translation_vector
    train/SCENE/pair_covisibility.csv   pair ("ID1-ID2"), covisibility, fundamental_matrix
    train/SCENE/images/ID.jpg
    test.csv                            sample_id, batch_id, image_1_id, image_2_id
    test_images/BATCH/ID.png
    submission.csv                      sample_id, fundamental_matrix

Matrices are row by row, numbers separated by spaces. Poses are cam_from_world; F maps image 1 to lines in image 2
(p2ᵀ F p1 = 0). After the competition's data description (kaggle.com/competitions/image-matching-challenge-2022/data)
and its tutorial (kaggle.com/code/eduardtrulls/imc2022-tutorial-load-and-evaluate-training-data); covisibility is that
of Jin et al., "Image Matching across Wide Baselines", IJCV 2021, section 3.2.

Files are untrusted: lines are bounded, numbers checked, and an id or a scene never leads out of its folder.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import pycolmap
from PIL import Image

from sfm.errors import BadFile
from sfm.geometry.epipolar import fundamental_matrix
from sfm.geometry.poses import relative_pose
from sfm.system.safe_paths import leads_out_anywhere, refuse_links
from sfm.types import Float64

MIN_COVISIBILITY = 0.1  # pairs below do not count in the challenge
MAX_LINE = 1 << 16  # characters
CALIBRATION = ("image_id", "camera_intrinsics", "rotation_matrix", "translation_vector")
COVISIBILITY = ("pair", "covisibility", "fundamental_matrix")
SCALING = ("scene", "scaling_factor")
TEST = ("sample_id", "batch_id", "image_1_id", "image_2_id")
SUBMISSION = ("sample_id", "fundamental_matrix")


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """True camera of an image. K: (3, 3) px. cam_from_world: (3, 4), in the scene's unit."""

    K: Float64
    cam_from_world: Float64


@dataclass(frozen=True, slots=True, eq=False)
class CovisiblePair:
    """Two images of a scene. covisibility: 0 to 1. F: (3, 3), from image 1 to image 2."""

    image_1: str
    image_2: str
    covisibility: float
    F: Float64


class Sample(NamedTuple):
    """One line of test.csv. The images are test_images/BATCH/IMAGE.png."""

    sample: str
    batch: str
    image_1: str
    image_2: str


# --- reading -------------------------------------------------------------------------------------


class _Row:
    """A line's values by column, and readers that say where a value is wrong."""

    def __init__(self, where: str, values: Mapping[str, str]) -> None:
        self.where = where
        self._values = values

    def text(self, column: str) -> str:
        return self._values[column]

    def name(self, column: str) -> str:
        """A value that is to be a file's or a folder's name."""
        name = self._values[column]
        if not _is_plain(name):
            raise BadFile(f"{self.where}: {column} {name[:80]!r} cannot be a file's name")
        return name

    def numbers(self, column: str, count: int) -> Float64:
        """Finite numbers, (count,)."""
        words = self._values[column].split()
        try:
            numbers = np.array([float(word) for word in words])
        except ValueError:
            raise BadFile(f"{self.where}: {column} holds something that is no number") from None
        if len(numbers) != count:
            raise BadFile(f"{self.where}: {column} holds {len(numbers)} numbers, expected {count}")
        if not np.isfinite(numbers).all():
            raise BadFile(f"{self.where}: {column} holds a number that is not finite")
        return numbers


def _is_plain(name: str) -> bool:
    """A name of one part that stays in its folder on any system."""
    return (
        name.strip() == name != "" and name not in (".", "..") and name.isprintable() and not set(name) & set('/\\:"')
    )


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise BadFile(f"{path}: a line is longer than {MAX_LINE} characters; not a file of the challenge")
        yield line


def _rows(path: Path, columns: Sequence[str]) -> Iterator[_Row]:
    """The lines of a CSV file one by one; its columns may be in any order, with others among them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_lines(file, path), strict=True)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in columns if name not in header]:
                raise BadFile(f"{path}: has no column {', '.join(missing)}; expected {', '.join(columns)}")
            for values in reader:
                where = f"{path}, line {reader.line_num}"
                if values and len(values) != len(header):
                    raise BadFile(f"{where}: {len(values)} values, but the first line names {len(header)} columns")
                if values:
                    yield _Row(where, dict(zip(header, values, strict=True)))
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror}); give a folder with the challenge's layout") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: not a CSV file ({error})") from None


def read_calibration(scene: Path) -> dict[str, Calibration]:
    """True cameras of a scene's folder by image id. Raises BadFile naming file and line."""
    found: dict[str, Calibration] = {}
    for row in _rows(scene / "calibration.csv", CALIBRATION):
        image = row.name("image_id")
        if image in found:
            raise BadFile(f"{row.where}: image {image} a second time")
        K = row.numbers("camera_intrinsics", 9).reshape(3, 3)
        rotation = row.numbers("rotation_matrix", 9).reshape(3, 3)
        if min(K[0, 0], K[1, 1]) <= 0 or K[1, 0] != 0 or (K[2] != (0, 0, 1)).any():
            raise BadFile(f"{row.where}: camera_intrinsics is no calibration matrix")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise BadFile(f"{row.where}: rotation_matrix is no rotation")
        found[image] = Calibration(K, np.column_stack([rotation, row.numbers("translation_vector", 3)]))
    return found


def read_covisible_pairs(
    scene: Path, images: Iterable[str], *, min_covisibility: float = MIN_COVISIBILITY
) -> Iterator[CovisiblePair]:
    """Pairs of a scene's folder that count, one by one. images: ids that calibration.csv has. Raises BadFile."""
    ids = {image: image for image in images}  # one string an image, whatever the number of its pairs
    seen: set[tuple[str, str]] = set()
    for row in _rows(scene / "pair_covisibility.csv", COVISIBILITY):
        image_1, image_2 = _two_ids(row, ids)
        if (image_1, image_2) in seen:
            raise BadFile(f"{row.where}: pair {image_1}-{image_2} a second time")
        covisibility = float(row.numbers("covisibility", 1)[0])
        F = row.numbers("fundamental_matrix", 9).reshape(3, 3)
        if covisibility >= min_covisibility:
            seen.add((image_1, image_2))
            yield CovisiblePair(image_1, image_2, covisibility, F)


def _two_ids(row: _Row, ids: Mapping[str, str]) -> tuple[str, str]:
    """The ids of "ID1-ID2", which may hold hyphens themselves."""
    pair = row.text("pair")
    splits = [(pair[:i], pair[i + 1 :]) for i, letter in enumerate(pair) if letter == "-"]
    fitting = [(ids[a], ids[b]) for a, b in splits if a in ids and b in ids and a != b]
    if len(fitting) != 1:
        raise BadFile(f"{row.where}: pair {pair[:80]!r} is not ID1-ID2 with two images of calibration.csv")
    return fitting[0]


def read_scaling_factors(folder: Path) -> dict[str, float]:
    """Metres per unit by scene, of the folder that has train/. Raises BadFile."""
    found: dict[str, float] = {}
    for row in _rows(folder / "train" / "scaling_factors.csv", SCALING):
        scene, factor = row.name("scene"), float(row.numbers("scaling_factor", 1)[0])
        if scene in found or factor <= 0:
            raise BadFile(
                f"{row.where}: scene {scene} {'a second time' if scene in found else 'has no positive scale'}"
            )
        found[scene] = factor
    if not found:
        raise BadFile(f"{folder / 'train' / 'scaling_factors.csv'}: names no scene")
    return found


def read_test_pairs(folder: Path) -> list[Sample]:
    """Lines of test.csv in order. Raises BadFile."""
    found: dict[str, Sample] = {}
    for row in _rows(folder / "test.csv", TEST):
        pair = Sample(row.text("sample_id"), *(row.name(column) for column in TEST[1:]))
        if pair.sample in found:
            raise BadFile(f"{row.where}: sample {pair.sample[:80]} a second time")
        found[pair.sample] = pair
    if not found:
        raise BadFile(f"{folder / 'test.csv'}: names no pair")
    return list(found.values())


def read_submission(path: Path) -> dict[str, Float64]:
    """(3, 3) fundamental matrices by sample. Raises BadFile."""
    found: dict[str, Float64] = {}
    for row in _rows(path, SUBMISSION):
        if row.text("sample_id") in found:
            raise BadFile(f"{row.where}: sample {row.text('sample_id')[:80]} a second time")
        found[row.text("sample_id")] = row.numbers("fundamental_matrix", 9).reshape(3, 3)
    return found


# --- writing -------------------------------------------------------------------------------------


def write_submission(path: Path, matrices: Mapping[str, Float64 | None]) -> None:
    """submission.csv, whole or not at all; a pair without a matrix gets zeros, as in the challenge's own example."""
    rows = ((sample, _words(np.zeros(9) if F is None else F)) for sample, F in matrices.items())
    _write_csv(path, SUBMISSION, rows)


def write_scene(
    model: pycolmap.Reconstruction, images: Path, folder: Path, scene: str, *, metres_per_unit: float = 1.0
) -> None:
    """Write a COLMAP model and its images to folder/train/scene; scenes that are there already stay.

    Ids are the images' names without extension, "/" and "-" made "_". A model without points says nothing of
    covisibility: all of its pairs then have 1. Raises BadFile for cameras with distortion, which the layout cannot
    hold, and for names that make one id.
    """
    if not _is_plain(scene):
        raise BadFile(f"scene {scene!r}: cannot be a folder's name")
    posed = sorted((model.image(image_id) for image_id in model.reg_image_ids()), key=lambda image: image.name)
    ids = _ids([image.name for image in posed])
    target = folder / "train" / scene
    calibrations = {image.name: _calibration(image, model.camera(image.camera_id)) for image in posed}
    refuse_links(folder, [f"train/{scene}"])
    (target / "images").mkdir(parents=True, exist_ok=True)
    for image in posed:
        _save_image(images / image.name, target / "images" / f"{ids[image.name]}.jpg")
    _write_csv(target / "calibration.csv", CALIBRATION, (_words_of(ids[n], c) for n, c in calibrations.items()))
    pairs = []
    for image_2, image_1 in combinations(posed, 2):  # the first of a pair sorts after the second, as there
        one, two = calibrations[image_1.name], calibrations[image_2.name]
        F = fundamental_matrix(one.K, two.K, relative_pose(one.cam_from_world, two.cam_from_world))
        pair = f"{ids[image_1.name]}-{ids[image_2.name]}"
        pairs.append((pair, f"{_covisibility(model, image_1, image_2):.3f}", _words(F)))
    _write_csv(target / "pair_covisibility.csv", COVISIBILITY, pairs)
    scales = read_scaling_factors(folder) if (folder / "train" / "scaling_factors.csv").is_file() else {}
    scales[scene] = metres_per_unit
    _write_csv(folder / "train" / "scaling_factors.csv", SCALING, ((n, repr(s)) for n, s in scales.items()))


def write_test(folder: Path, batch: str, images: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Write folder/test.csv of one batch, and test_images/batch/ID.png. pairs: two names of images each."""
    ids = _ids(sorted({name for pair in pairs for name in pair}))
    refuse_links(folder, [f"test_images/{batch}"])
    (folder / "test_images" / batch).mkdir(parents=True, exist_ok=True)
    for name, image in ids.items():
        _save_image(images / name, folder / "test_images" / batch / f"{image}.png")
    rows = ((f"{batch};{ids[a]}-{ids[b]}", batch, ids[a], ids[b]) for a, b in pairs)
    _write_csv(folder / "test.csv", TEST, rows)


def _ids(names: Sequence[str]) -> dict[str, str]:
    """Image ids by image name. BadFile where two images would have one, or one is outside its folder."""
    if outside := [name for name in names if leads_out_anywhere(name)]:
        raise BadFile(f"{outside[0]!r}: leads out of the folder of images; this model is not trusted")
    ids = {name: name.rpartition(".")[0].replace("/", "_").replace("-", "_") or name for name in names}
    if len(set(ids.values())) < len(ids) or not all(map(_is_plain, ids.values())):
        raise BadFile("image names do not make distinct ids without extension, '/' and '-'; rename the images")
    return ids


def _calibration(image: pycolmap.Image, camera: pycolmap.Camera) -> Calibration:
    if camera.model.name not in ("SIMPLE_PINHOLE", "PINHOLE"):
        raise BadFile(f"{image.name}: camera {camera.model.name} has distortion; undistort the images first")
    return Calibration(camera.calibration_matrix(), image.cam_from_world().matrix())


def _covisibility(model: pycolmap.Reconstruction, image_1: pycolmap.Image, image_2: pycolmap.Image) -> float:
    """Share of an image that the bounding box of the common points takes, the smaller of the two images'."""
    if model.num_points3D() == 0:
        return 1.0
    seen = [{p.point3D_id: p.xy for p in image.points2D if p.has_point3D()} for image in (image_1, image_2)]
    common = seen[0].keys() & seen[1].keys()
    if not common:
        return 0.0
    shares = []
    for image, xy_of in zip((image_1, image_2), seen, strict=True):
        xy = np.array([xy_of[point] for point in common])
        camera = model.camera(image.camera_id)
        shares.append(float(np.prod(np.ptp(xy, axis=0)) / (camera.width * camera.height)))
    return min(*shares, 1.0)


def _save_image(source: Path, target: Path) -> None:
    """The image in the target's format; a JPEG to be a JPEG is copied as it is."""
    target.unlink(missing_ok=True)  # it may be a link
    if target.suffix == ".jpg" and source.suffix.lower() in (".jpg", ".jpeg"):
        shutil.copyfile(source, target)
    else:
        with Image.open(source) as image:
            image.convert("RGB").save(target, quality=95)  # PNG has no quality and passes over it


def _words_of(image: str, calibration: Calibration) -> tuple[str, str, str, str]:
    pose = calibration.cam_from_world
    return image, _words(calibration.K), _words(pose[:, :3]), _words(pose[:, 3])


def _words(numbers: Float64) -> str:
    return " ".join(repr(float(number)) for number in np.ravel(numbers))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with part.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(part, path)
