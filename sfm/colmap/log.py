"""COLMAP without its log on the terminal, and bundle adjustment that leaves the log as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pyceres
import pycolmap

from sfm.system.standard_error import without_stderr

FATAL = 3  # glog's level: our own summaries and errors report what failed
SETTINGS = ("minloglevel", "stderrthreshold", "alsologtostderr", "logtostderr")


@contextmanager
def quiet(*, stderr: bool = False) -> Iterator[None]:
    """COLMAP's log of every step is left out while it runs; afterwards its settings are as before.

    stderr: nothing of this process reaches standard error either, so no progress bar may run inside. Needed around
    three of pycolmap's functions (bundle_adjustment, triangulate_points, undistort_images): they make COLMAP's option
    manager, which sets the log level back to "everything", and no setting of the log survives that.
    """
    log = pycolmap.logging
    before = {name: getattr(log, name) for name in SETTINGS}
    log.minloglevel = FATAL
    try:
        with without_stderr() if stderr else nullcontext():
            yield
    finally:
        for name, value in before.items():
            setattr(log, name, value)


def adjust_bundle(model: pycolmap.Reconstruction, options: pycolmap.BundleAdjustmentOptions) -> None:
    """Bundle adjustment of a whole model in place, as pycolmap.bundle_adjustment, but quietly. Errors are updated.

    The adjuster's own `solve` keeps the interpreter's lock, and with it every other thread and Ctrl-C from working.
    """
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(model.reg_image_ids()):
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    with quiet():
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
        problem = adjuster.problem
        pyceres.solve(options.ceres.create_solver_options(config, problem), problem, pyceres.SolverSummary())
    model.update_point_3d_errors()
