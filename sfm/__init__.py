"""loftr-sfm: a folder of photos in, a sparse 3D model out, by detector-free matching."""

import zlib  # noqa: F401  before pycolmap: its bundled zlib otherwise takes Pillow's place and corrupts memory

__version__ = "0.1.0"
