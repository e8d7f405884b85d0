"""The verb localize: a finished model and new images in, their poses out; the model stays as it is.

A new image is matched with images of the model that see it from everywhere, then with those that observe the same
points as the ones that matched. What the model's images observe is carried over by the matches, a pose is found by
RANSAC, the correspondences are aligned to a fraction of a pixel, and the pose is refined with what is known of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.camera import prior_camera
from sfm.errors import BadFile, BadImage, BadOption
from sfm.geometry.pixels import reduction
from sfm.images.camera_priors import ImageHeader, cameras_of
from sfm.images.decoding import read_grey
from sfm.images.discovery import FoundImages, find_images
from sfm.images.index import check_image
from sfm.localization.alignment import Aligner
from sfm.localization.correspondences import Correspondences, lifted, merged
from sfm.localization.model import KnownModel
from sfm.localization.options import LocalizeOptions
from sfm.localization.output import RECORD, Localized, write_results
from sfm.localization.pose import Pose, find_pose, refine_pose
from sfm.matchers.base import Matcher
from sfm.matchers.registry import device_of, make_matcher
from sfm.matching.rotations import ROTATIONS, RotatedPair
from sfm.matching.session import match_images
from sfm.options import ImageOptions
from sfm.system import memory
from sfm.system.safe_paths import leads_out
from sfm.types import ImagePair, ImageRecord, Matches

REACH = 0.5  # cells of the grid (without one, 4 px) between an observation and a match
SAME_CAMERA = 1.1  # another camera than one of the model must explain so many times more
MIN_INLIER_RATIO = 0.1  # of the correspondences; chance fits fewer

FirstPose = tuple[Pose, Correspondences, bool, str]  # with whether the focal length is free, and whose camera it is


@dataclass(frozen=True, slots=True)
class NewImages:
    """The images to be localized. records: by the name that the model gives them. skipped: (name, reason)."""

    folder: Path
    records: Mapping[str, ImageRecord]
    has_prior: Mapping[str, bool]
    skipped: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, path: Path, taken: Mapping[str, int]) -> NewImages:
        """All images in a folder, or one file. taken: names in the model. BadFile where there are none."""
        if path.is_file():
            folder, found = path.parent, FoundImages((path.name,), ())
        else:
            folder, found = path, find_images(path)
        skipped = list(found.skipped)
        headers: list[ImageHeader] = []
        digests: dict[str, str] = {}
        for name in found.names:
            try:
                header, digests[name] = check_image(folder / name)
                headers.append(header._replace(name=name))
            except BadImage as error:
                skipped.append((name, str(error)))
        if not headers:
            why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
            raise BadFile(f"{path}: no image that can be used{why}")
        cameras = cameras_of(headers, ImageOptions(camera="per-image"))
        new = {h.name: h.name if h.name not in taken else _free_name(h.name, taken) for h in headers}
        records = {
            new[h.name]: ImageRecord(str((folder / h.name).resolve()), *h.size, cameras[h.name], digests[h.name])
            for h in headers
        }
        prior = {new[h.name]: cameras[h.name].has_focal_prior for h in headers}
        return cls(folder, records, prior, tuple(skipped))


def _free_name(name: str, taken: Mapping[str, int]) -> str:
    """Of two images of one name the new one is told apart by its folder."""
    number, free = 1, f"localized/{name}"
    while free in taken:
        number, free = number + 1, f"localized-{number}/{name}"
    return free


class _Matching:
    """Matches of new images with images of the model, by name of the new one."""

    def __init__(self, known: KnownModel, new: NewImages, matcher: Matcher, options: LocalizeOptions) -> None:
        self._known, self._new, self._matcher, self._options = known, new, matcher, options
        self._records: dict[str, ImageRecord | None] = {}
        self.found: dict[str, dict[str, Correspondences]] = defaultdict(dict)

    def match(self, wanted: Sequence[tuple[str, str]], *, rotation: int = 0) -> None:
        """Pairs (new, known), which are left out where the known one cannot be read. rotation: quarter turns."""
        pairs = {}
        for new, known in wanted:
            record = self.record(known)
            if record is not None:
                pairs[ImagePair.of(record.name, self._new.records[new].name)] = (new, known)
        tasks = [RotatedPair(pair, rotation) for pair in sorted(pairs)]
        records = {r.name: r for r in (*self._new.records.values(), *self._records.values()) if r is not None}
        for results in match_images(self._matcher, Path("/"), records, tasks, self._options.matching) if tasks else ():
            for task, matches in results:
                new, known = pairs[task.pair]
                self._add(new, known, matches, flipped=task.pair.name0 == self._new.records[new].name)

    def _add(self, new: str, known: str, matches: Matches, *, flipped: bool) -> None:
        ends = (matches.points1, matches.points0) if flipped else (matches.points0, matches.points1)
        record = self._records[known]
        assert record is not None
        grid = self._matcher.grid(record.width, record.height)
        reach = REACH * max(grid.cell_width, grid.cell_height) if grid is not None else 4.0
        in_model, in_new = (end.astype(np.float64) for end in ends)
        found = lifted(
            self._known.observed(known), in_model, in_new, matches.confidence.astype(np.float64), reach=reach
        )
        before = self.found[new].get(known)
        if before is None or len(found) > len(before):
            self.found[new][known] = found

    def record(self, name: str) -> ImageRecord | None:
        """Of an image of the model, by its absolute path; None where its file is not what the model was made of."""
        if name not in self._records:
            self._records[name] = self._checked(name)
        return self._records[name]

    def _checked(self, name: str) -> ImageRecord | None:
        path = (self._known.images_folder / name).absolute()
        camera = self._known.columns.cameras[self._known.row_of[name]]
        if leads_out(name):
            return None
        try:
            header, digest = check_image(path)
        except BadImage:
            return None
        if header.size != (camera.width, camera.height):
            return None
        prior = cameras_of([header], ImageOptions())[header.name]
        return ImageRecord(str(path), *header.size, prior, digest)

    @property
    def num_read(self) -> int:
        """Images of the model that could be read."""
        return sum(record is not None for record in self._records.values())


def localize(model: Path, images: Path, out: Path, model_images: Path, options: LocalizeOptions) -> list[Localized]:
    """Localizes images (a folder or a file) in a model (an output folder or a COLMAP model); writes `out`/sparse/0 and
    `out`/localized.json.

    model_images: folder of the model's images. Returns what became of each image, in the order of their names. Raises
    BadFile, BadImage and BadOption for what the user can correct.
    """
    known = KnownModel.read(model, model_images)
    _check_output(out, known)
    new = NewImages.of(images, known.row_of)
    matcher = make_matcher(options.matching)
    work = _Matching(known, new, matcher, options)
    number = options.localization.candidates
    probes = known.spread(number if number >= len(known.row_of) else (number + 1) // 2)
    work.match([(name, probe) for name in new.records for probe in probes])
    if not work.num_read:
        raise BadFile(f"{model_images}: none of the model's images is there; give their folder by --model-images")
    work.match([pair for name in new.records for pair in _neighbours(known, work, name, number - len(probes))])
    finder = _Finder(known, new, work, matcher, options)
    first = {name: finder.first_pose(name) for name in new.records}
    lost = [name for name, pose in first.items() if pose is None]
    for rotation in ROTATIONS if not matcher.rotation_invariant and options.matching.turns == "auto" else ():
        work.match([(name, probe) for name in lost for probe in probes], rotation=rotation)
        work.match(
            [pair for name in lost for pair in _neighbours(known, work, name, number - len(probes))], rotation=rotation
        )
    first |= {name: finder.first_pose(name) for name in lost}
    results = [finder.localized(name, first[name]) for name in sorted(new.records)]
    results += [Localized(name, reason) for name, reason in new.skipped]
    about = {"model": str(known.path), "images_folder": str(new.folder), "matcher": matcher.provenance}
    write_results(out, known.path, known.model, results, about)
    return results


def _check_output(out: Path, known: KnownModel) -> None:
    if out.is_file():
        raise BadFile(f"{out}: is a file; give a folder for the results")
    if (out / "sparse").resolve() in (known.path.resolve(), *known.path.resolve().parents):
        raise BadOption(f"{out}: holds the model itself, which stays as it is; give another folder for the results")
    if (out / "sparse").exists() and not (out / RECORD).exists():
        raise BadOption(f"{out}: holds another model; give another folder for the results")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


def _neighbours(known: KnownModel, work: _Matching, name: str, num: int) -> list[tuple[str, str]]:
    """Images that observe what those do that matched the new one best."""
    strength = sorted(work.found[name].items(), key=lambda item: (-len(item[1]), item[0]))
    best = [other for other, found in strength[:3] if len(found)]
    more = [other for other in known.covisible(best) if other not in work.found[name]] if best and num > 0 else []
    return [(name, other) for other in more[:num]]


class _Finder:
    """From matches to poses."""

    def __init__(
        self, known: KnownModel, new: NewImages, work: _Matching, matcher: Matcher, options: LocalizeOptions
    ) -> None:
        self._known, self._new, self._work, self._matcher = known, new, work, matcher
        self._options = options.localization
        budget = memory.budget(options.matching.memory, options.matching.device)

        @lru_cache(maxsize=8)
        def read(name: str) -> NDArray[np.uint8]:
            record = work.record(name)
            assert record is not None  # references are of images that were matched
            return read_grey(Path("/"), record)

        self._aligner = Aligner(read, self._sigma, self._options.align_size, budget, device_of(options.matching))

    def _sigma(self, width: int, height: int) -> float:
        return self._matcher.traits.pixel_sigma * reduction(self._matcher.grid(width, height))

    def _cameras(self, name: str) -> list[tuple[pycolmap.Camera, bool, str]]:
        """What the camera may be: (camera, whether its focal length is free, where it is from), likely ones first."""
        record = self._new.records[name]
        size = (record.width, record.height)
        found: dict[int, pycolmap.Camera] = {}
        for camera_id, camera in sorted(self._known.model.cameras.items()):
            if (camera.width, camera.height) == size:
                found[camera_id] = camera
        own = prior_camera(record)
        source = "EXIF" if self._new.has_prior[name] else "a guess"
        return [
            *((camera, False, f"camera {i} of the model") for i, camera in list(found.items())[:4]),
            (own, True, f"{source}, refined"),
        ]

    def first_pose(self, name: str) -> FirstPose | None:
        """The pose that matches give, with its correspondences, whether the focal length is free, and the camera."""
        found = merged(list(self._work.found[name].values()))
        if len(found) < self._options.min_inliers:
            return None
        record, xyz = self._new.records[name], self._known.xyz(found.point)
        sigma = self._sigma(record.width, record.height)
        best: tuple[Pose, bool, str] | None = None
        for camera, free, source in self._cameras(name):
            pose = find_pose(found.xy, xyz, camera, sigma=sigma, free_focal=free, seed=self._options.seed)
            if pose is not None and (best is None or pose.inliers.sum() > SAME_CAMERA * best[0].inliers.sum()):
                best = (pose, free, source)
        if best is None or not self._enough(best[0], len(found)):
            return None
        return best[0], found, best[1], best[2]

    def _enough(self, pose: Pose, num: int) -> bool:
        return bool(pose.inliers.sum() >= max(self._options.min_inliers, MIN_INLIER_RATIO * num))

    def localized(self, name: str, first: FirstPose | None) -> Localized:
        """What becomes of an image. first: of `first_pose`."""
        if first is None:
            num = len(merged(list(self._work.found[name].values())))
            return Localized(name, f"no pose explains enough of its {num} correspondences with the model")
        pose, found, free, source = first
        found = found.take(pose.inliers)
        grey = read_grey(Path("/"), self._new.records[name])
        xy, covariances = self._aligner.align(self._known, pose, found, grey, list(self._work.found[name]))
        found = replace(found, xy=xy)
        refined = refine_pose(pose, xy, self._known.xyz(found.point), covariances, free_focal=free)
        if not self._enough(refined, len(found)):
            return Localized(name, f"only {int(refined.inliers.sum())} of {len(found)} correspondences fit its pose")
        return Localized(name, "", refined, found, source)
