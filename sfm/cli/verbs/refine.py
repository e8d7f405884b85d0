"""refine MODEL IMAGES OUT: sub-pixel tracks for a COLMAP model of any origin."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_options, options_from
from sfm.pipeline.refine_options import RefineOptions

TEXT = """\
Every observation of every track is aligned with its track's reference in the images themselves, to a few hundredths of
a pixel where there is texture; then all is adjusted. The model may be of COLMAP, hloc, GLOMAP or RealityScan, binary or
text. Writes OUT/sparse/0, OUT/points.ply, and OUT/refine.json: what was done."""
EXAMPLES = f"""\
examples:
  {PROGRAM} refine colmap/sparse/0 images/ refined/                    as COLMAP left it
  {PROGRAM} refine colmap/ images/ refined/                            the same: it is found in sparse/0
  {PROGRAM} refine colmap/ images/ refined/ --fix-intrinsics           cameras that are calibrated
"""


def _arguments(parser: Parser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="COLMAP model, or a folder with some in sparse/")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of the model's images")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results; made if absent")
    add_options(parser, RefineOptions)


def _run(args: Namespace) -> int:
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.pipeline.refine_model import refine_folder
    from sfm.system.interrupts import end_at_sigterm

    end_at_sigterm()
    print(refine_folder(args.model, args.images, args.out, options_from(args, RefineOptions)))
    return 0


VERB = Verb(
    "MODEL IMAGES OUT", "sub-pixel tracks for a COLMAP model of any origin", _arguments, _run, TEXT, EXAMPLES, True
)
