"""What localization says at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfm.localization.output import RECORD, Localized
from sfm.system.tables import aligned


def text(results: Sequence[Localized], out: Path) -> str:
    """A line for each image, and where everything is."""
    rows = [("image", "inliers", "error", "rotation ±", "centre ±", "camera")]
    for one in results:
        if one.pose is None:
            continue
        record = one.record()
        rows.append(
            (
                one.name,
                f"{record['inliers']:,} of {record['correspondences']:,}",
                f"{record['median_error_px']:.2f} px",
                f"{record['rotation_sigma_deg']:.3f}°",
                f"{record['centre_sigma']:.2g}",
                f"{one.pose.camera.mean_focal_length():.0f} px ({one.camera})",
            )
        )
    num = len(rows) - 1
    lines = [f"{num} of {len(results)} {'image' if len(results) == 1 else 'images'} localized"]
    lines += [aligned(rows, "lrrrrl")] if num else []
    lines += [f"not localized: {one.name}: {one.reason}" for one in results if one.pose is None]
    if num:
        lines.append(f"{out / 'sparse' / '0'}: the model with them; {out / RECORD}: poses and covariances")
    return "\n".join(lines)
