"""Two images: matches, fundamental and essential matrix, relative pose; figures and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfm.two_view.api import TwoViewResult as TwoViewResult
    from sfm.two_view.api import match_images as match_images
    from sfm.two_view.api import match_photos as match_photos


def __getattr__(name: str) -> Any:
    """What users call, imported when it is asked for."""
    if name not in ("TwoViewResult", "match_images", "match_photos"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sfm.two_view import api

    return getattr(api, name)
