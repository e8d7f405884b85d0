"""The parts that the report of a run and that of a comparison share: models, images, pairs, as plain values.

Images are numbered by their place in the page's list of names. Positions in images are parts of 65535 of width and
height, errors of keypoints parts of 255 of KEYPOINT_ERROR.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.drawing.scene import Scene
from sfm.drawing.still import panels, still
from sfm.errors import BadImage
from sfm.images.decoding import read_thumbnail
from sfm.match_graph import REASONS, RefusedPair, TriedPair
from sfm.report.html import data_url, pack, pack_fractions
from sfm.types import REJECTIONS, ImagePair, Int64, Matches, TwoViewGeometry

ALIKE = "looks alike"  # of REJECTIONS
MAX_POINTS = 300_000  # in the 3D view; of more, a fair sample
MAX_KEYPOINTS = 1500  # an image
MAX_NEIGHBOURS = 8  # an image
MAX_THUMBNAILS = 150
MAX_DRAWN_MATCHES = 200  # a pair
DRAWN_PAIRS = 4  # of each kind
THUMBNAIL, LARGE_THUMBNAIL = 448, 640  # px, longer side; the larger where few images are shown
FEW_IMAGES = 50
KEYPOINT_ERROR = 4.0  # px, the top of the scale
FEW_OBSERVATIONS, LARGE_ERROR = 0.2, 2.0  # times the median over images

STILL = 1200  # px, the still's width
STILL_BACKGROUND = (244, 245, 247)
MODEL_TINTS = ((29, 110, 214), (178, 84, 0), (0, 128, 96), (142, 68, 173), (176, 42, 72), (91, 102, 115))  # report.css

Sizes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PageImages:
    """The images of a page: names in order, width and height px of those known, the folder they are in, if any."""

    names: tuple[str, ...]
    sizes: Sizes
    folder: Path | None

    @property
    def numbers(self) -> dict[str, int]:
        """Place of each name."""
        return {name: i for i, name in enumerate(self.names)}


# Models


def model_part(scene: Scene, images: PageImages, most: int = MAX_POINTS) -> dict[str, Any]:
    """Points, `most` of them, and cameras for the 3D view."""
    points, cameras, numbers = scene.points, scene.cameras, images.numbers
    rows = sample(len(points.xyz), most)
    rotation = np.swapaxes(cameras.cam_from_world[:, :, :3], 1, 2)
    poses = np.concatenate([rotation, cameras.centres[:, :, None]], axis=2)
    return {
        "title": scene.title,
        "total": len(points.xyz),
        "xyz": pack(points.xyz[rows], "f4"),
        "rgb": pack(points.rgb[rows], "u1"),
        "error": pack(np.nan_to_num(points.error[rows]), "f4"),
        "length": pack(points.length[rows], "u2"),
        "cameras": {
            "image": pack([numbers[name] for name in cameras.names], "u4"),
            "pose": pack(poses, "f4"),  # world_from_cam, (C, 3, 4)
            "size": pack(cameras.size, "f4"),
            "focal": pack(cameras.focal, "f4"),
            "principal": pack(cameras.principal, "f4"),
        },
    }


def sample(num: int, most: int) -> Int64:
    """Rows 0..num - 1, or `most` of them drawn fairly, ascending."""
    if num <= most:
        return np.arange(num)
    return np.sort(np.random.default_rng(0).choice(num, most, replace=False))


def still_url(scenes: Sequence[Scene]) -> tuple[str, str]:
    """A picture of the models, upright and in one frame, as a URL, with what it shows in words."""
    across, down = panels(len(scenes))
    height = int(STILL / across * (9 / 16 if across == 1 else 2 / 3)) * down
    tints = [MODEL_TINTS[k % len(MODEL_TINTS)] for k in range(len(scenes))]
    words = [
        f"{scene.title}: {len(scene.points.xyz):,} points and {len(scene.cameras.names):,} cameras" for scene in scenes
    ]
    picture = still(scenes, (STILL, height), tints, STILL_BACKGROUND)
    return data_url(
        picture, quality=80
    ), f"The model{'s' if len(scenes) > 1 else ''}, drawn in space. {'; '.join(words)}."


def histograms(scene: Scene) -> dict[str, Any]:
    """Counts of track lengths (the last bar takes the rest) and of points' reprojection errors."""
    length, error = scene.points.length, scene.points.error[np.isfinite(scene.points.error)]
    longest = int(np.clip(length.max(initial=2), 2, 24))
    top = float(np.quantile(error, 0.995)) if len(error) else 1.0
    edges = np.linspace(0, top or 1.0, 41)
    return {
        "length": {
            "first": 2,
            "counts": np.bincount(np.clip(length, 2, longest), minlength=longest + 1)[2:].tolist(),
            "rest": bool(length.max(initial=2) > longest),
            "mean": float(length.mean()) if len(length) else 0.0,
        },
        "error": {
            "top": float(edges[-1]),
            "counts": np.histogram(np.minimum(error, edges[-1]), edges)[0].tolist(),
            "mean": float(error.mean()) if len(error) else 0.0,
            "median": float(np.median(error)) if len(error) else 0.0,
        },
    }


# Images in a model


def side_part(scene: Scene | None, images: PageImages, shown: set[int], reasons: Mapping[str, str]) -> dict[str, Any]:
    """What one model has of every image. shown: images whose keypoints are drawn. reasons: why some are not in it."""
    num = len(images.names)
    side: dict[str, Any] = {
        "registered": [False] * num,
        "reason": [reasons.get(name, "") for name in images.names],
        "observations": [0] * num,
        "error": [None] * num,
        "warning": [""] * num,
        "neighbours": [[] for _ in range(num)],
        "seen": {},
    }
    if scene is None:
        return side
    rows = [images.numbers[name] for name in scene.cameras.names]
    errors = mean_errors(scene)
    neighbours = neighbours_of(scene)
    warnings = warnings_of(scene.observation_counts(), errors)
    for row, i in enumerate(rows):
        side["registered"][i] = True
        side["reason"][i] = ""
        side["observations"][i] = int(scene.observation_counts()[row])
        side["error"][i] = None if np.isnan(errors[row]) else round(float(errors[row]), 4)
        side["warning"][i] = warnings[row]
        side["neighbours"][i] = [[rows[other], count] for other, count in neighbours[row]]
        if i in shown:
            side["seen"][str(i)] = _seen(scene, row)
    return side


def mean_errors(scene: Scene) -> NDArray[np.float64]:
    """(C,) mean reprojection error of each camera's observations, px; NaN without any."""
    error, camera = scene.observations.error.astype(np.float64), scene.observations.camera
    finite, num = np.isfinite(error), len(scene.cameras.names)
    total = np.bincount(camera[finite], error[finite], minlength=num)
    count = np.bincount(camera[finite], minlength=num)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def neighbours_of(scene: Scene) -> list[list[tuple[int, int]]]:
    """For each camera the rows of those it shares most points with, and how many."""
    shared = scene.shared_points()
    found = []
    for counts in shared:
        best = np.argsort(-counts, kind="stable")[:MAX_NEIGHBOURS]
        found.append([(int(row), int(counts[row])) for row in best if counts[row] > 0])
    return found


def warnings_of(counts: Int64, errors: NDArray[np.float64]) -> list[str]:
    """For each camera in what it is an outlier, or ""."""
    usual = float(np.median(counts)) if len(counts) else 0.0
    usual_error = float(np.nanmedian(errors)) if np.isfinite(errors).any() else 0.0
    found = []
    for count, error in zip(counts.tolist(), errors.tolist(), strict=True):
        said = []
        if count < FEW_OBSERVATIONS * usual:
            said.append(f"few observations: {count:,}, the median image has {usual:,.0f}")
        if error > LARGE_ERROR * usual_error:
            said.append(f"large error: {error:.2f} px, the median image has {usual_error:.2f} px")
        found.append("; ".join(said))
    return found


def _seen(scene: Scene, row: int) -> dict[str, Any]:
    """Keypoints of a camera with their errors."""
    own = scene.observations.of_camera(row)
    xy, error = scene.observations.xy[own], scene.observations.error[own]
    kept = sample(len(xy), MAX_KEYPOINTS)
    scaled = np.minimum(error[kept].astype(np.float64) / KEYPOINT_ERROR, 1.0) * 255
    return {"xy": pack_fractions(xy[kept], scene.cameras.size[row].tolist()), "error": pack(np.rint(scaled), "u1")}


# Thumbnails


def shown_images(num: int, first: Sequence[int]) -> set[int]:
    """Images that get a thumbnail: all, or `first` of them and the rest evenly spread."""
    if num <= MAX_THUMBNAILS:
        return set(range(num))
    chosen = dict.fromkeys(first[: MAX_THUMBNAILS * 2 // 3])
    evenly = np.linspace(0, num - 1, MAX_THUMBNAILS - len(chosen)).astype(int).tolist()
    return set(chosen) | set(evenly)


def thumbnails(images: PageImages, shown: set[int]) -> dict[str, str]:
    """Thumbnails as data URLs by the image's number; images that have gone or changed have none."""
    folder = images.folder
    if folder is None or not folder.is_dir():
        return {}
    known = [i for i in sorted(shown) if images.names[i] in images.sizes]
    side = LARGE_THUMBNAIL if len(known) <= FEW_IMAGES else THUMBNAIL

    def one(i: int) -> str | None:
        name = images.names[i]
        try:
            return data_url(read_thumbnail(folder, name, images.sizes[name], side))
        except BadImage:
            return None

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return {str(i): url for i, url in zip(known, pool.map(one, known), strict=True) if url is not None}


# Pairs


def pairs_part(
    counts: Mapping[ImagePair, int], geometries: Mapping[ImagePair, TwoViewGeometry], images: PageImages
) -> dict[str, Any]:
    """Columns of all pairs that hold a match: images, matches, verified matches; rows of those that were refused."""
    numbers = images.numbers
    rows = [
        (numbers[pair.name0], numbers[pair.name1], count, _inliers(geometries, pair))
        for pair, count in sorted(counts.items())
        if count > 0
    ]
    alike = {(numbers[p.name0], numbers[p.name1]) for p, g in geometries.items() if g.reason == ALIKE}
    i, j, matches, inliers = np.array(rows, np.int64).reshape(-1, 4).T
    kind = "u2" if len(images.names) < 65536 else "u4"
    return {
        "tried": len(counts),
        "i": pack(i, kind),
        "j": pack(j, kind),
        "matches": pack(matches, "u4"),
        "inliers": pack(inliers, "u4"),
        "refused": [k for k, row in enumerate(rows) if row[:2] in alike],
    }


def as_refused(
    geometries: Mapping[ImagePair, TwoViewGeometry], refused: Sequence[RefusedPair]
) -> dict[ImagePair, TwoViewGeometry]:
    """Those of verified pairs that were refused, as of pairs that are not verified."""
    return {
        each.pair: TwoViewGeometry(each.pair, np.zeros(0, np.uint32), "degenerate", reason=ALIKE)
        for each in refused
        if each.pair in geometries
    }


def rounds_part(
    tried: Sequence[TriedPair], geometries: Mapping[ImagePair, TwoViewGeometry]
) -> list[tuple[int, str, int, int]]:
    """What was tried and why: round, reason in words, pairs, and how many are verified; empty where the pairs were
    given."""
    if all(each.reason == "chosen" for each in tried):
        return []
    groups: dict[tuple[int, str], list[bool]] = {}
    for each in tried:
        groups.setdefault((each.round, each.reason), []).append(_inliers(geometries, each.pair) > 0)
    order = sorted(groups, key=lambda key: (key[0], list(REASONS).index(key[1])))
    return [(number, REASONS[why], len(groups[number, why]), sum(groups[number, why])) for number, why in order]


def _inliers(geometries: Mapping[ImagePair, TwoViewGeometry], pair: ImagePair) -> int:
    return len(geometries[pair].inliers) if pair in geometries else 0


def pairs_to_draw(
    counts: Mapping[ImagePair, int], geometries: Mapping[ImagePair, TwoViewGeometry]
) -> list[tuple[str, ImagePair]]:
    """The strongest and the weakest verified pairs, those that show places that look alike, and the other rejected ones
    of most matches."""
    inliers = {pair: _inliers(geometries, pair) for pair in counts}
    verified = sorted((p for p in counts if inliers[p] > 0), key=lambda p: (-inliers[p], p))
    rejected = sorted((p for p in counts if inliers[p] == 0 and counts[p] > 0), key=lambda p: (-counts[p], p))
    alike = [pair for pair in rejected if pair in geometries and geometries[pair].reason == ALIKE]
    rejected = [pair for pair in rejected if pair not in set(alike)]
    strongest = verified[:DRAWN_PAIRS]
    weakest = verified[len(strongest) :][::-1][:DRAWN_PAIRS]
    kinds = {
        "strongest": strongest,
        "weakest": weakest,
        "alike": alike[:DRAWN_PAIRS],
        "rejected": rejected[:DRAWN_PAIRS],
    }
    return [(kind, pair) for kind, pairs in kinds.items() for pair in pairs]


def drawn_part(
    chosen: Sequence[tuple[str, ImagePair]],
    geometries: Mapping[ImagePair, TwoViewGeometry],
    matches: Mapping[ImagePair, Matches],
    images: PageImages,
) -> list[dict[str, Any]]:
    """The chosen pairs with a sample of their matches."""
    return [_drawn(role, pair, matches[pair], geometries.get(pair), images) for role, pair in chosen]


def _kind(geometry: TwoViewGeometry | None) -> str:
    """A pair's geometry, or why it has none."""
    if geometry is None:
        return ""
    return REJECTIONS[geometry.reason] or geometry.kind.replace("_", " ")


def _drawn(
    role: str, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | None, images: PageImages
) -> dict[str, Any]:
    rows = sample(len(matches), MAX_DRAWN_MATCHES)
    inlier = np.zeros(len(matches), np.uint8)
    if geometry is not None:
        inlier[geometry.inliers] = 1
    return {
        "role": role,
        "i": images.numbers[pair.name0],
        "j": images.numbers[pair.name1],
        "matches": len(matches),
        "inliers": int(inlier.sum()),
        "kind": _kind(geometry),
        "a": pack_fractions(matches.points0[rows], images.sizes[pair.name0]),
        "b": pack_fractions(matches.points1[rows], images.sizes[pair.name1]),
        "confidence": pack(np.rint(matches.confidence[rows] * 255), "u1"),
        "inlier": pack(inlier[rows], "u1"),
    }
