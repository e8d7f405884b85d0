"""Options of runs over the arc of tests.support.arc_scene, and what of a run was reused."""

from __future__ import annotations

from sfm.options import ImageOptions, Options

OPTIONS = Options(images=ImageOptions(camera_model="SIMPLE_PINHOLE", camera="single", intrinsics="384,160,120"))


def reused(summary) -> list[str]:
    return [stage.stage for stage in summary.stages if stage.reused]
