"""loftr-sfm: a folder of images in, a sparse 3D model out, by detector-free matching.

    import sfm
    summary = sfm.reconstruct("images", "out", pairs="sequential:5")

What is named here is imported when it is first asked for: `import sfm` loads no other library.
"""

from __future__ import annotations

import zlib  # noqa: F401  before pycolmap: its bundled zlib otherwise takes Pillow's place and corrupts memory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfm.options import Options as Options
    from sfm.pipeline.run import open_run as open_run
    from sfm.pipeline.run import reconstruct as reconstruct
    from sfm.two_view.api import match_images as match_images

__version__ = "0.2.0"

_LAZY = {
    "Options": "sfm.options",
    "match_images": "sfm.two_view.api",
    "open_run": "sfm.pipeline.run",
    "reconstruct": "sfm.pipeline.run",
}


def __getattr__(name: str) -> Any:
    """The functions that users call, from where they are."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """With what is imported when it is asked for."""
    return sorted({*globals(), *_LAZY})
