"""report OUT: the page of a run, or of any model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import Parser, Verb, add_model_number

TEXT = """\
Every run writes this page at its end; this writes it again, for instance where the images have moved. Of a COLMAP
model of other origin, or another model of a run (--model N), the page has what the model itself says."""


def _arguments(parser: Parser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run or of refine, or a COLMAP model")
    add_model_number(parser)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")


def _run(args: Namespace) -> int:
    from sfm.report.any_model import write_any_report
    from sfm.results.console import print_warnings

    print(write_any_report(args.out, args.model, args.images))
    if not args.model:
        print_warnings(args.out)
    return 0


VERB = Verb("OUT", "write OUT/report.html again, or the page of any COLMAP model", _arguments, _run, TEXT)
