"""The whole run: the table of stages, and what of them is reused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfm.pipeline.run import OpenRun as OpenRun
    from sfm.pipeline.run import open_run as open_run
    from sfm.pipeline.run import reconstruct as reconstruct


def __getattr__(name: str) -> Any:
    """What users call, imported when it is asked for."""
    if name not in ("OpenRun", "open_run", "reconstruct"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sfm.pipeline import run

    return getattr(run, name)
