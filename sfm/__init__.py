"""loftr-sfm: a folder of photos in, a sparse 3D model out, by detector-free matching."""

import zlib as _zlib  # noqa: F401  (before pycolmap: see below)
from pathlib import Path

__version__ = "0.1.0"

# In a checkout `matchers/`, `weights/` and `datasets/` stand beside `sfm/`; an installed wheel has
# them inside it. Either way they are imported as `sfm.matchers`, `sfm.weights`, `sfm.datasets`.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "matchers").is_dir():
    __path__.append(str(_root))
del _root

# pycolmap exports a zlib of its own. Where it is the first to load the system's libz, that library's
# inner calls end in pycolmap's copy, and the next PNG that Pillow writes aborts the process. Python's
# zlib module loads libz first.
