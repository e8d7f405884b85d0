"""refine MODEL IMAGES OUT: sub-pixel tracks for a COLMAP model of any origin."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_model_number, add_options, options_from
from sfm.pipeline.refine_options import RefineOptions

TEXT = """\
Every observation of every track is aligned with its track's reference in the images themselves, to a few hundredths of
a pixel where there is texture; then all is adjusted. The model may be of COLMAP, hloc, GLOMAP or RealityScan, binary or
text. Writes OUT/sparse/0 and OUT/database.db, from which COLMAP can go on, OUT/points.ply, and OUT/refine.json: what
was done. Exit code 4 where the result is probably bad."""
EXAMPLES = f"""\
examples:
  {PROGRAM} refine colmap/sparse/0 images/ refined/                    as COLMAP left it
  {PROGRAM} refine colmap/ images/ refined/                            the same: it is found in sparse/0
  {PROGRAM} refine colmap/ images/ refined/ --fix-intrinsics           cameras that are calibrated
"""


def _arguments(parser: Parser) -> None:
    parser.add_argument("path", type=Path, metavar="MODEL", help="COLMAP model, or a folder with some in sparse/")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of the model's images")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results; made if absent")
    add_model_number(parser)
    add_options(parser, RefineOptions)


def _run(args: Namespace) -> int:
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.pipeline.refine_model import refine_folder, text
    from sfm.results.console import bad_model_line
    from sfm.system.interrupts import end_at_sigterm

    end_at_sigterm()
    record = refine_folder(args.path, args.images, args.out, options_from(args, RefineOptions), number=args.model)
    print(text(record, args.out))
    if record["warnings"]:
        print(f"{PROGRAM}: {bad_model_line(record['warnings'])}", file=sys.stderr)
    return 4 if record["warnings"] else 0


VERB = Verb(
    "MODEL IMAGES OUT", "sub-pixel tracks for a COLMAP model of any origin", _arguments, _run, TEXT, EXAMPLES, True
)
