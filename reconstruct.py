"""Front door of a checkout: `python reconstruct.py IMAGES OUT`, the same as the command `loftr-sfm`."""

import sys

from sfm.cli import main

if __name__ == "__main__":
    sys.exit(main())
