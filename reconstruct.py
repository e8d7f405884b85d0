"""Front door of a checkout: `python reconstruct.py IMAGES OUT`, the same as the command `loftr-sfm`."""

import sys

try:
    import sfm.matchers  # noqa: F401  only an installation has it: a checkout alone would fail later
    from sfm.cli.main import main
except ModuleNotFoundError as error:
    sys.exit(f"reconstruct.py: {error}; install the checkout first: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    sys.exit(main())
