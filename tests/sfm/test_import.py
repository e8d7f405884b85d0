"""What users call is found where the README says, and costs nothing before it is called."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sfm
from sfm.two_view import match_images, match_photos

HEAVY = ("torch", "open3d", "pycolmap", "numpy", "h5py", "scipy", "PIL")


@pytest.mark.parametrize("statement", ["import sfm", "import sfm.two_view, sfm.pipeline, sfm.export, sfm.results"])
def test_import_loads_no_other_library(statement):
    program = f"{statement}\nimport sys; sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_functions_are_found_by_their_short_names():
    from sfm.pipeline.run import open_run, reconstruct

    assert (sfm.reconstruct, sfm.open_run) == (reconstruct, open_run)
    assert sfm.match_images is match_images is match_photos
    assert {"reconstruct", "open_run", "match_images", "Options"} <= set(dir(sfm))


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="no attribute 'tests'"):
        sfm.tests  # noqa: B018
