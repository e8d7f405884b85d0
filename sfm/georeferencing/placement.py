"""The models of a run are brought into metres: a similarity each, which changes no model's shape.

Where it is applied, a model's folder holds frame.json beside the model, written with it in one step: a run that is
killed in between carries on, one with other options undoes the similarity before it applies another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm.colmap.model_reader import read_models
from sfm.colmap.model_writer import write_models, write_ply
from sfm.geometry.similarity import Similarity
from sfm.georeferencing.frame import FRAME_FILE, OWN, WorldFrame, origin_dict, read_frame
from sfm.georeferencing.gps_fit import GPSFit, fit_gps
from sfm.georeferencing.scale_bars import MeasuredBar, ScaleBars, measure, scale_of
from sfm.images.positions import Positions, positions_of
from sfm.system.hashing import json_digest
from sfm.types import ImageRecord

REVISION = 1  # raised when other frames are found
SHOWN = 5  # outliers in the record
MAX_BAR_ERROR = 0.1  # of a known distance


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The frame of one model, as it was without a similarity where it keeps its own, and what is said of it."""

    frame: WorldFrame
    record: dict[str, Any]

    @property
    def is_placed(self) -> bool:
        """Whether it has a frame in metres."""
        return self.frame.kind != OWN


def place(
    out: Path, records: Sequence[ImageRecord], *, gps: bool, bars: ScaleBars | None = None
) -> dict[str, Any] | None:
    """Brings OUT/sparse/N and OUT/points.ply into metres where positions or known distances determine them.

    gps: whether the positions are used. Returns what run.json says of the largest model, with a `text` for the user;
    None where there is nothing to say: no positions, no distances, nothing to undo. Raises BadFile for damaged files.
    """
    positions = positions_of(records if gps else ())
    folders = sorted((p for p in (out / "sparse").iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    before = [read_frame(folder) for folder in folders]
    if not positions.names and not positions.doubted and bars is None and not any(before):
        return None
    key = _key(positions, bars)
    models = read_models(out / "sparse")
    known = [frame for frame in before if frame is not None and frame.key == key and "text" in frame.record]
    if len(known) == len(models):
        write_ply(models[0], out / "points.ply")  # a run may have been killed before it
        return _of_all(known)
    own = [_own(frame) for frame in before]
    found = [_frame_of(model, back, positions, bars, key) for model, back in zip(models, own, strict=True)]
    is_placed = any(one.is_placed for one in found)
    if is_placed or any(before):
        for model, back, one in zip(models, own, found, strict=True):
            _transform(model, _after(one.frame.similarity, back))
        beside = [{FRAME_FILE: one.frame.text()} for one in found] if is_placed else []
        write_models(models, out / "sparse", beside=beside)
        write_ply(models[0], out / "points.ply")
    return _of_all([one.frame for one in found]) if found[0].record else None


def _of_all(frames: Sequence[WorldFrame]) -> dict[str, Any]:
    """What is said of the largest model, and which frames all have."""
    record = dict(frames[0].record) | {"models": [frame.kind for frame in frames]}
    own = [f"sparse/{i}" for i, frame in enumerate(frames) if frame.kind == OWN]
    if 0 < len(own) < len(frames) and frames[0].kind != OWN:
        record["text"] += f"; {', '.join(own)} in a frame of {'their' if len(own) > 1 else 'its'} own"
    return record


def _key(positions: Positions, bars: ScaleBars | None) -> str:
    known = None if bars is None else [[(b.end0, b.end1, b.metres) for b in bars.bars], sorted(bars.marks.items())]
    return json_digest(
        [REVISION, positions.names, positions.wgs84.tolist(), positions.sigma.tolist(), known],
    )


def _own(frame: WorldFrame | None) -> Similarity:
    """The frame of mapping from the model's present one."""
    if frame is None:
        return Similarity(1.0, np.eye(3), np.zeros(3))
    similarity = frame.similarity
    inverse = similarity.rotation.T
    return Similarity(1 / similarity.scale, inverse, -inverse @ similarity.translation / similarity.scale)


def _after(second: Similarity, first: Similarity) -> Similarity:
    """Both, one after the other."""
    translation = second.scale * second.rotation @ first.translation + second.translation
    return Similarity(second.scale * first.scale, second.rotation @ first.rotation, translation)


def _transform(model: pycolmap.Reconstruction, similarity: Similarity) -> None:
    model.transform(pycolmap.Sim3d(similarity.scale, pycolmap.Rotation3d(similarity.rotation), similarity.translation))


def model_fit(model: pycolmap.Reconstruction, positions: Positions, back: Similarity | None = None) -> GPSFit:
    """A model's camera centres against positions. back: the frame they are wanted in from the model's."""
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: image.name)
    centres = np.array([image.projection_center() for image in images]).reshape(-1, 3)
    return fit_gps([image.name for image in images], centres if back is None else back(centres), positions)


def _frame_of(
    model: pycolmap.Reconstruction, back: Similarity, positions: Positions, bars: ScaleBars | None, key: str
) -> _Found:
    fit = model_fit(model, positions, back) if positions.names or positions.doubted else None
    measured, lost = measure(bars, model) if bars is not None else ((), ())
    record: dict[str, Any] = {}
    if fit is not None:
        record["gps"] = _gps_record(fit, positions)
    if bars is not None:
        scale = scale_of(measured) / back.scale if measured else None
        record["scale_bars"] = _bars_record(measured, lost, None if scale is None else scale * back.scale)
        similarity = _similarity(fit, scale)
    else:
        similarity = _similarity(fit, None)
    located = fit is not None and not fit.reason
    still = Similarity(1.0, np.eye(3), np.zeros(3))
    if not record:
        return _Found(WorldFrame(still, None, key, {}), {})
    record["text"] = _text(fit, record, located, similarity)
    record |= {"frame": "ENU" if located else "metres" if similarity is not None else OWN}
    if similarity is None:
        return _Found(WorldFrame(still, None, key, record), record)
    origin = fit.origin if fit is not None and located else None
    if origin is not None:
        record["origin"] = origin_dict(origin)
    return _Found(WorldFrame(similarity, origin, key, record), record)


def _similarity(fit: GPSFit | None, scale: float | None) -> Similarity | None:
    """By GPS where it is to be used, at the scale of known distances where there are some."""
    if fit is None or fit.reason:
        return None if scale is None else Similarity(scale, np.eye(3), np.zeros(3))
    if scale is None:
        return fit.similarity
    rows = fit.explained
    rotation = fit.similarity.rotation
    shift = (fit.enu[rows] - scale * fit.centres[rows] @ rotation.T).mean(axis=0)
    return Similarity(scale, rotation, np.asarray(shift))


# --- what is said of it ----------------------------------------------------------------------------


def _gps_record(fit: GPSFit, positions: Positions) -> dict[str, Any]:
    record: dict[str, Any] = {
        "used": not fit.reason,
        "positions": len(fit.names),
        "doubted": [{"image": name, "reason": why} for name, why in sorted(positions.doubted.items())],
    }
    if fit.reason:
        record["reason"] = fit.reason
    if fit.robust is None:
        return record
    scale, rotation = fit.deviations
    record["residuals_m"] = {
        name: {"median": spread.median, "p90": spread.p90} for name, spread in fit.spreads().items()
    }
    record["fitting"] = int(fit.explained.sum())
    record["outliers"] = list(fit.outliers)
    if np.isfinite([scale, rotation]).all():
        record["deviation"] = {"scale": scale, "rotation_deg": rotation}
    return record


def _bars_record(measured: Sequence[MeasuredBar], lost: Sequence[str], scale: float | None) -> dict[str, Any]:
    bars = [
        {
            "ends": [one.bar.end0, one.bar.end1],
            "metres": one.bar.metres,
            "residual_m": (scale or 0.0) * one.length - one.bar.metres,
        }
        for one in measured
    ]
    return {"used": scale is not None, "bars": bars, "not_measured": list(lost)}


def _text(fit: GPSFit | None, record: dict[str, Any], located: bool, similarity: Similarity | None) -> str:
    """The frame in one line."""
    said = []
    if fit is not None and located:
        total, level, height = (fit.spreads()[name] for name in ("total", "horizontal", "vertical"))
        said.append(
            f"metres, x east, y north, z up, by {int(fit.explained.sum())} of {len(fit.names)} GPS positions; they are "
            f"{total.median:.2f} m off in the median (horizontal {level.median:.2f}, vertical {height.median:.2f}), "
            f"90 % within {total.p90:.2f} m"
        )
        if fit.outliers:
            said.append(f"not fitting: {', '.join(fit.outliers[:SHOWN])}{', ...' if len(fit.outliers) > SHOWN else ''}")
    elif fit is not None:
        said.append(f"GPS is not used: {fit.reason}")
    if (doubted := len(record.get("gps", {}).get("doubted", []))) > 0:
        said.append(f"{doubted} images repeat the position of another")
    if "scale_bars" in record:
        said.append(_bars_text(record["scale_bars"]))
        if fit is not None and located and similarity is not None and record["scale_bars"]["used"]:
            ratio = fit.similarity.scale / similarity.scale
            record["scale_bars"]["gps_scale"] = ratio
            said.append(f"the scale by GPS, at which the distances from it are, differs by {ratio - 1:+.1%}")
    if similarity is None:
        said.append("the model keeps a frame and a scale of its own")
    return "; ".join(said)


def scale_doubts(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What is wrong with known distances, by the record of `place`: a line each."""
    bars = record.get("scale_bars")
    if bars is None:
        return ()
    if not bars["used"]:
        return (f"no known distance could be measured, so the model is not at their scale ({bars['not_measured'][0]})",)
    found = []
    worst = max(bars["bars"], key=lambda bar: abs(bar["residual_m"]) / bar["metres"])
    if abs(worst["residual_m"]) > MAX_BAR_ERROR * worst["metres"]:
        share = abs(worst["residual_m"]) / worst["metres"]
        ends = " to ".join(worst["ends"])
        found.append(f"the known distances contradict each other, by {share:.0%} ({ends}): check them")
    off = bars.get("gps_scale", 1.0) - 1
    deviation = record.get("gps", {}).get("deviation", {}).get("scale", 0.0)
    if abs(off) > max(MAX_BAR_ERROR, 4 * deviation):
        found.append(f"the known distances contradict GPS, whose scale differs by {off:+.0%}: check them")
    return tuple(found)


def _bars_text(record: dict[str, Any]) -> str:
    if not record["used"]:
        return f"no known distance could be measured ({'; '.join(record['not_measured'])})"
    worst = max(record["bars"], key=lambda bar: abs(bar["residual_m"]) / bar["metres"])
    num = len(record["bars"])
    text = f"metres by {num} known distance{'s' if num > 1 else ''}"
    if num > 1:
        share = worst["residual_m"] / worst["metres"]
        text += f", the worst off by {worst['residual_m']:+.3g} m ({share:+.1%}, {' to '.join(worst['ends'])})"
    lost = record["not_measured"]
    return text + (f"; not measured: {'; '.join(lost)}" if lost else "")
