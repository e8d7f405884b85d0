"""colmap_log: nothing of COLMAP's on standard error, and its settings as before."""

import os

import numpy as np
import pycolmap
import pytest

from sfm.colmap import log as colmap_log


@pytest.fixture
def loud():
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = 0
    yield
    pycolmap.logging.minloglevel = before


def test_bundle_adjustment_is_quiet_and_does_what_colmaps_does(mapped, capfd, loud):
    ours, theirs = (pycolmap.Reconstruction(mapped[1].models[0]) for _ in range(2))
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    colmap_log.adjust_bundle(ours, options)
    assert capfd.readouterr().err == ""
    assert pycolmap.logging.minloglevel == 0
    pycolmap.bundle_adjustment(theirs, options)
    assert "bundle_adjustment" in capfd.readouterr().err
    assert ours.compute_mean_reprojection_error() == pytest.approx(theirs.compute_mean_reprojection_error(), rel=1e-4)
    np.testing.assert_allclose(ours.cameras[1].params, theirs.cameras[1].params, rtol=1e-4, atol=1e-5)


def test_quiet_without_stderr_survives_functions_that_set_the_log_back(mapped, capfd, loud):
    with colmap_log.quiet(stderr=True):
        pycolmap.bundle_adjustment(pycolmap.Reconstruction(mapped[1].models[0]))
        os.write(2, b"and C's")
    assert capfd.readouterr().err == ""
    os.write(2, b"back")
    assert "back" in capfd.readouterr().err
    assert pycolmap.logging.minloglevel == 0
