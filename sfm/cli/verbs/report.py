"""report OUT: the page of a run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import Parser, Verb

TEXT = "Every run writes this page at its end; this writes it again, for instance where the images have moved."


def _arguments(parser: Parser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")


def _run(args: Namespace) -> int:
    from sfm.report.run import write_report
    from sfm.results.console import print_warnings

    print(write_report(args.out, args.images))
    print_warnings(args.out)
    return 0


VERB = Verb("OUT", "write OUT/report.html again", _arguments, _run, TEXT)
