"""What the feature database holds: its groups as one table, and the way from values to columns and back.

Written for people in docs/database.md. The group `matches` is kept by sfm.storage.match_table. Pairs are two
row numbers of `images`, so that no separator in a name can be mistaken. The `..._columns` functions
give what a group stores, the others rebuild the values and raise ValueError where columns
contradict each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from sfm.finders import MOST
from sfm.storage.hdf5_columns import Array, Columns, check_offsets, offsets_of
from sfm.system.safe_paths import leads_out
from sfm.system.untrusted_files import NUMBER, has_shape
from sfm.types import (
    REJECTIONS,
    CameraPrior,
    GPSTag,
    Grid,
    ImagePair,
    ImageRecord,
    KeypointMatches,
    Keypoints,
    MatcherTraits,
    TwoViewGeometry,
)

SCHEMA_VERSION = 1
Row = Mapping[str, Array]
_STRIDE, _TRAITS = "stride", "traits"  # attributes of `grids`
_LENSES = "lenses"  # attribute of `two_view`
GRIDS = ("grids", *(f"grids.{number}" for number in range(1, MOST)))  # of the matcher, and of others beside it

_FINDER = ("u1?", ("N",))  # number of the matcher that found it; 0: the first, or the only one
# I images, P pairs, G grids, N keypoints of all images, K rows of all pairs, T tracks, O observations
SCHEMA: dict[str, Columns] = {
    "images": {
        "name": ("str", ("I",)),
        "digest": ("str", ("I",)),
        "size": ("i4", ("I", 2)),  # width, height, px
        "camera_model": ("str", ("I",)),
        "camera_group": ("str", ("I",)),
        "has_focal_prior": ("u1", ("I",)),
        "params_offsets": ("i8", ("I+1",)),
        "params": ("f8", ("p",)),  # px, COLMAP's order
    },
    "value_ranges": {"image_idx": ("u4", ("V",)), "range": ("f8", ("V", 2))},  # of images of more than 8 bits
    "positions": {  # NaN: none
        "wgs84": ("f8", ("I", 3)),  # latitude, longitude, degrees; altitude, m
        "sigma": ("f8", ("I", 2)),  # horizontal, vertical, m
        "relative_altitude": ("f8", ("I",)),  # m
        "gimbal": ("f8", ("I", 3)),  # yaw, pitch, roll, degrees
        "taken_at": ("f8", ("I",)),  # s since 1970
    },
    "copies": {"name": ("str", ("C",)), "image_idx": ("u4", ("C",))},  # files that are copies of an image
    "pairs": {"image_idx": ("u4", ("P", 2))},
    "candidates": {"image_idx": ("u4", ("P", 2)), "likeness": ("f4", ("P",)), "reason": ("u1", ("P",))},
    "tried": {"image_idx": ("u4", ("P", 2)), "round": ("u2", ("P",)), "reason": ("u1", ("P",)), "fits": ("u1", ("P",))},
    **{name: {"image_idx": ("u4", ("G",)), "grid": ("f8", ("G", 3))} for name in GRIDS},  # as Grid; NaN: none
    "two_view": {
        "image_idx": ("u4", ("P", 2)),
        "kind": ("str", ("P",)),
        "inlier_offsets": ("i8", ("P+1",)),
        "inliers": ("u4", ("K",)),
        "cam1_from_cam0": ("f8", ("P", 3, 4)),  # NaN: none
        "F": ("f8", ("P", 3, 3)),  # NaN: none
        "reason": ("u1?", ("P",)),  # place in REJECTIONS; 0: verified
    },
    "keypoints": {"offsets": ("i8", ("I+1",)), "xy": ("f4", ("N", 2)), "score": ("f4", ("N",)), "finder": _FINDER},
    "keypoint_matches": {
        "image_idx": ("u4", ("P", 2)),
        "offsets": ("i8", ("P+1",)),
        "indices": ("u4", ("K", 2)),
        "score": ("f4", ("K",)),
    },
    "tracks": {"offsets": ("i8", ("T+1",)), "image_idx": ("u4", ("O",)), "keypoint_idx": ("u4", ("O",))},
    "refused": {"image_idx": ("u4", ("P", 2)), "matched": ("u4", ("P",)), "through": ("u4", ("P",))},
}
IMAGE_GROUPS = ("images", "value_ranges", "positions")
NUM_PARAMS = {  # of COLMAP's camera models (src/colmap/sensor/models.h)
    **{"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8, "FULL_OPENCV": 12, "FOV": 5},
    **{"SIMPLE_FISHEYE": 3, "FISHEYE": 4, "SIMPLE_RADIAL_FISHEYE": 4, "RADIAL_FISHEYE": 5, "OPENCV_FISHEYE": 8},
    **{"THIN_PRISM_FISHEYE": 12, "RAD_TAN_THIN_PRISM_FISHEYE": 16, "SIMPLE_DIVISION": 4, "DIVISION": 5, "EUCM": 6},
    "EQUIRECTANGULAR": 2,
}
KINDS = frozenset(  # of two-view geometries, as TwoViewGeometry names them
    (
        *("undefined", "degenerate", "calibrated", "calibrated_rig", "uncalibrated"),
        *("planar", "panoramic", "planar_or_panoramic", "watermark", "multiple"),
    )
)
_REASONS = tuple(REJECTIONS)
# the stage that makes each group
STAGE_OF = {
    "images": "images",
    "value_ranges": "images",
    "positions": "images",
    "copies": "images",
    "pairs": "pairs",
    "candidates": "pairs",
    "tried": "matching",
    **dict.fromkeys(GRIDS, "matching"),
    "matches": "matching",
    "two_view": "verification",
    "keypoints": "tracks",
    "keypoint_matches": "tracks",
    "tracks": "tracks",
    "refused": "tracks",
}


def _stack(arrays: Sequence[Array], trailing: tuple[int, ...]) -> Array:
    return np.concatenate(arrays) if arrays else np.zeros((0, *trailing))


def _split(values: Array, offsets: Array, what: str) -> list[Array]:
    check_offsets(offsets, len(values), what)
    return [values[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def _or_nan(matrices: Sequence[Array | None], shape: tuple[int, int]) -> Array:
    filled = [np.full(shape, np.nan) if m is None else m for m in matrices]
    return np.stack(filled) if filled else np.zeros((0, *shape))


def _or_none(matrix: Array) -> Array | None:
    return None if np.isnan(matrix).any() else matrix


def pair_rows(pairs: Sequence[ImagePair], rows: Mapping[str, int]) -> Array:
    """(P, 2) u32 row numbers of the pairs' images; ValueError for a name that has none."""
    unknown = {name for pair in pairs for name in (pair.name0, pair.name1)} - rows.keys()
    if unknown:
        raise ValueError(f"no image named {min(unknown)!r}")
    return np.array([(rows[p.name0], rows[p.name1]) for p in pairs], np.uint32).reshape(-1, 2)


def pairs(image_idx: Array, names: Sequence[str]) -> list[ImagePair]:
    """The pairs of (P, 2) row numbers."""
    return [ImagePair(names[i], names[j]) for i, j in image_idx.tolist()]


def images_columns(records: Sequence[ImageRecord]) -> dict[str, Any]:
    """Columns of `images`."""
    return {
        "name": [r.name for r in records],
        "digest": [r.digest for r in records],
        "size": np.array([(r.width, r.height) for r in records], np.int32).reshape(-1, 2),
        "camera_model": [r.camera.model for r in records],
        "camera_group": [r.camera.group for r in records],
        "has_focal_prior": [r.camera.has_focal_prior for r in records],
        "params_offsets": offsets_of([len(r.camera.params) for r in records]),
        "params": _stack([r.camera.params for r in records], ()),
    }


def value_ranges_columns(records: Sequence[ImageRecord]) -> dict[str, Any]:
    """Columns of `value_ranges`."""
    found = [(row, record.value_range) for row, record in enumerate(records) if record.value_range is not None]
    return {
        "image_idx": np.array([row for row, _ in found], np.uint32),
        "range": np.array([own for _, own in found], np.float64).reshape(-1, 2),
    }


def with_value_ranges(records: Sequence[ImageRecord], c: Row) -> tuple[ImageRecord, ...]:
    """The images with their ranges of values."""
    if (c["image_idx"] >= len(records)).any() or not (c["range"][:, 0] < c["range"][:, 1]).all():
        raise ValueError("value_ranges: of no image, or empty")
    own = dict(zip(c["image_idx"].tolist(), c["range"].tolist(), strict=True))
    return tuple(
        replace(record, value_range=tuple(own[row])) if row in own else record for row, record in enumerate(records)
    )


def images(c: Row) -> tuple[ImageRecord, ...]:
    """The images, names sorted and unique."""
    names = [str(name) for name in c["name"]]
    if names != sorted(set(names)):
        raise ValueError("images: names are not sorted and unique")
    if outside := [name for name in names if leads_out(name)]:
        raise ValueError(f"images: {outside[0]!r} leads out of the folder of images")
    if (c["size"] <= 0).any():
        raise ValueError("images: an image without pixels")
    params = _split(c["params"], c["params_offsets"], "images")
    if any(len(own) != NUM_PARAMS.get(str(model)) for own, model in zip(params, c["camera_model"], strict=True)):
        raise ValueError("images: parameters that are not those of the camera's model")
    cameras = [
        CameraPrior(str(model), p, bool(known), str(group))
        for model, p, known, group in zip(
            c["camera_model"], params, c["has_focal_prior"], c["camera_group"], strict=True
        )
    ]
    sizes = c["size"].tolist()
    return tuple(
        ImageRecord(name, width, height, camera, str(digest))
        for name, (width, height), camera, digest in zip(names, sizes, cameras, c["digest"], strict=True)
    )


def positions_columns(records: Sequence[ImageRecord]) -> dict[str, Any]:
    """Columns of `positions`."""
    nowhere = (np.nan,) * 9
    rows = [nowhere if r.gps is None else _position_row(r.gps) for r in records]
    table = np.array(rows, np.float64).reshape(-1, 9)
    return {
        "wgs84": table[:, :3],
        "sigma": table[:, 3:5],
        "relative_altitude": table[:, 5],
        "gimbal": table[:, 6:],
        "taken_at": np.array([np.nan if r.taken_at is None else r.taken_at for r in records], np.float64),
    }


def _position_row(gps: GPSTag) -> tuple[float, ...]:
    of_sensor = gps.horizontal_sigma, gps.vertical_sigma, gps.relative_altitude
    return gps.latitude, gps.longitude, gps.altitude, *of_sensor, *gps.gimbal


def _tag(*row: float) -> GPSTag:
    latitude, longitude, altitude, horizontal, vertical, relative, *gimbal = row
    return GPSTag(latitude, longitude, altitude, horizontal, vertical, relative, (gimbal[0], gimbal[1], gimbal[2]))


def with_positions(records: Sequence[ImageRecord], c: Row) -> tuple[ImageRecord, ...]:
    """The images with their positions and times."""
    if len(c["taken_at"]) != len(records):
        raise ValueError("positions: of other images")
    table = np.column_stack([c["wgs84"], c["sigma"], c["relative_altitude"], c["gimbal"]])
    if np.isinf(table).any() or np.isinf(c["taken_at"]).any():
        raise ValueError("positions: not finite")
    tags = [None if np.isnan(row[0]) else _tag(*row) for row in table.tolist()]
    times = [None if np.isnan(time) else time for time in c["taken_at"].tolist()]
    return tuple(replace(r, gps=tag, taken_at=time) for r, tag, time in zip(records, tags, times, strict=True))


def image_groups(records: Sequence[ImageRecord], there: Collection[str]) -> dict[str, dict[str, Any]]:
    """Columns of every group of IMAGE_GROUPS that is to be written. there: groups that the file has."""
    groups = {"images": images_columns(records), "positions": positions_columns(records)}
    if "value_ranges" in there or any(record.value_range is not None for record in records):
        groups["value_ranges"] = value_ranges_columns(records)
    return groups


def image_records(groups: Mapping[str, Row]) -> tuple[ImageRecord, ...]:
    """The images, with what the groups beside `images` say of them; older files have fewer."""
    records = images(groups["images"]) if "images" in groups else ()
    for name, filled in (("value_ranges", with_value_ranges), ("positions", with_positions)):
        records = filled(records, groups[name]) if name in groups else records
    return records


def grids_columns(grids: Mapping[str, Grid | None], rows: Mapping[str, int]) -> dict[str, Any]:
    """Columns of `grids`; ValueError for an unknown image."""
    if grids.keys() - rows.keys():
        raise ValueError(f"no image named {min(grids.keys() - rows.keys())!r}")
    values = [(np.nan,) * 3 if grid is None else grid[:3] for grid in grids.values()]
    return {"image_idx": [rows[n] for n in grids], "grid": np.array(values, np.float64).reshape(-1, 3)}


def grids_attributes(grids: Mapping[str, Grid | None], traits: MatcherTraits | None) -> dict[str, Any]:
    """Attributes of `grids`; ValueError for grids of different strides."""
    strides = {Grid(*grid).stride for grid in grids.values() if grid is not None}
    if len(strides) > 1:
        raise ValueError(f"grids of different strides: {sorted(strides)}")
    of_grids = {_STRIDE: float(*strides)} if strides else {}
    return of_grids | ({_TRAITS: json.dumps(asdict(traits), sort_keys=True)} if traits is not None else {})


def grids(c: Row, names: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Grid | None]:
    """Matcher.grid by image name."""
    if not np.isfinite(c["grid"][~np.isnan(c["grid"]).all(axis=1)]).all():
        raise ValueError("grids: not finite")
    stride = float(attributes.get(_STRIDE, Grid._field_defaults["stride"]))
    if not 0 < stride < np.inf:
        raise ValueError(f"grids: a stride of {stride}")
    rows = zip(c["image_idx"].tolist(), c["grid"].tolist(), strict=True)
    return {names[i]: None if np.isnan(w) else Grid(w, h, int(num), stride) for i, (w, h, num) in rows}


def traits(c: Row, attributes: Mapping[str, Any]) -> MatcherTraits:
    """Matcher.traits; where a file of before has none, those of LoFTR for matches that have grids."""
    if _TRAITS not in attributes:
        return MatcherTraits(dense=not bool(np.isnan(c["grid"]).all()))
    value = json.loads(attributes[_TRAITS])
    if not has_shape(value, {"pixel_sigma": NUMBER, "refinable": bool, "dense": bool}):
        raise ValueError("grids: not the traits of a matcher")
    return MatcherTraits(float(value["pixel_sigma"]), value["refinable"], value["dense"])


def two_view_columns(geometries: Sequence[TwoViewGeometry], rows: Mapping[str, int]) -> dict[str, Any]:
    """Columns of `two_view`."""
    return {
        "image_idx": pair_rows([g.pair for g in geometries], rows),
        "kind": [g.kind for g in geometries],
        "inlier_offsets": offsets_of([len(g.inliers) for g in geometries]),
        "inliers": _stack([g.inliers for g in geometries], ()),
        "cam1_from_cam0": _or_nan([g.cam1_from_cam0 for g in geometries], (3, 4)),
        "F": _or_nan([g.F for g in geometries], (3, 3)),
        "reason": [_REASONS.index(g.reason) for g in geometries],
    }


def two_view(c: Row, names: Sequence[str]) -> tuple[TwoViewGeometry, ...]:
    """The verified pairs."""
    if unknown := set(map(str, c["kind"])) - KINDS:
        raise ValueError(f"two_view: kind {min(unknown)!r}")
    inliers = _split(c["inliers"], c["inlier_offsets"], "two_view")
    numbers = c.get("reason", np.zeros(len(c["kind"]), np.uint8)).tolist()
    if numbers and max(numbers) >= len(_REASONS):
        raise ValueError(f"two_view: reason {max(numbers)}")
    reasons = [_REASONS[number] for number in numbers]
    each = zip(pairs(c["image_idx"], names), inliers, c["kind"], c["cam1_from_cam0"], c["F"], reasons, strict=True)
    return tuple(
        TwoViewGeometry(p, rows, str(k), _or_none(pose), _or_none(F), why) for p, rows, k, pose, F, why in each
    )


def keypoints_columns(keypoints: Sequence[Keypoints]) -> dict[str, Any]:
    """Columns of `keypoints`."""
    return {
        "offsets": offsets_of([len(k) for k in keypoints]),
        "xy": _stack([k.xy for k in keypoints], (2,)),
        "score": _stack([k.score for k in keypoints], ()),
        "finder": _stack([k.finder for k in keypoints], ()),
    }


def keypoints(c: Row) -> tuple[Keypoints, ...]:
    """Keypoints of every image."""
    finder = c.get("finder", np.zeros(len(c["score"]), np.uint8))
    if len(finder) and finder.max() >= MOST:
        raise ValueError(f"keypoints: found by matcher {finder.max()}")
    each = (_split(column, c["offsets"], "keypoints") for column in (c["xy"], c["score"], finder))
    return tuple(Keypoints(*columns) for columns in zip(*each, strict=True))


def keypoint_matches_columns(matches: Sequence[KeypointMatches], rows: Mapping[str, int]) -> dict[str, Any]:
    """Columns of `keypoint_matches`."""
    return {
        "image_idx": pair_rows([m.pair for m in matches], rows),
        "offsets": offsets_of([len(m.indices) for m in matches]),
        "indices": _stack([m.indices for m in matches], (2,)),
        "score": _stack([m.score for m in matches], ()),
    }


def keypoint_matches(c: Row, names: Sequence[str]) -> tuple[KeypointMatches, ...]:
    """The one-to-one matches of every pair."""
    indices, score = (_split(c[name], c["offsets"], "keypoint_matches") for name in ("indices", "score"))
    each = zip(pairs(c["image_idx"], names), indices, score, strict=True)
    return tuple(KeypointMatches(*values) for values in each)


def check_keypoint_idx(image_idx: Array, keypoint_idx: Array, counts: Array) -> None:
    """ValueError unless each keypoint_idx (...,) is below the count of its image_idx (...,)."""
    if (keypoint_idx >= counts[image_idx]).any():
        raise ValueError("a keypoint's number is beyond its image's keypoints")


def check_matched_keypoints(image_idx: Array, offsets: Array, indices: Array, counts: Array) -> None:
    """The same of matches: image_idx (P, 2) of pairs, whose indices are the slices offsets (P + 1,) of indices (K, 2).

    Takes no memory to speak of: there may be fifty million.
    """
    some = np.diff(offsets) > 0
    largest = np.maximum.reduceat(indices, offsets[:-1][some], axis=0) if some.any() else indices[:0]
    check_keypoint_idx(image_idx[some], largest, counts)


def lenses_attributes(lenses: Sequence[CameraPrior]) -> dict[str, str]:
    """Attributes of `two_view`: the cameras that were found with it."""
    found = [{"group": c.group, "model": c.model, "params": c.params.tolist()} for c in lenses]
    return {_LENSES: json.dumps(found)} if found else {}


def lenses(attributes: Mapping[str, Any]) -> dict[str, CameraPrior]:
    """By camera group the cameras that were found with the verified pairs. ValueError for damaged ones."""
    text = attributes.get(_LENSES, "[]")
    found: Any = json.loads(text) if isinstance(text, str) else None
    if not has_shape(found, [{"group": str, "model": str, "params": [NUMBER]}]):
        raise ValueError("lenses")
    if any(len(lens["params"]) != NUM_PARAMS.get(lens["model"]) for lens in found):
        raise ValueError("lenses of other parameters than their models have")
    return {lens["group"]: CameraPrior(lens["model"], np.array(lens["params"]), True, lens["group"]) for lens in found}
