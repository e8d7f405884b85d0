"""compare A B: two models of the same images."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import Parser, Verb

TEXT = """\
A table of both models: images, points, track lengths, errors, how far their cameras agree, and with --ground-truth the
pose AUC of each. The page shows both in 3D, side by side or overlaid."""


def _arguments(parser: Parser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="OUT of a run, or a COLMAP model")
    parser.add_argument("b", type=Path, metavar="B", help="OUT of another run, or a COLMAP model")
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="COLMAP model with the true poses")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page to write (default: A/compare_B.html)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")


def _run(args: Namespace) -> int:
    from sfm.evaluation.comparison import compare, format_table
    from sfm.report.comparison import default_path, write_comparison
    from sfm.results.console import print_warnings

    found = compare(args.a, args.b, args.ground_truth)
    print(format_table(found))
    print_warnings(args.a, args.b)
    path = args.report or default_path(args.a, args.b)
    written = write_comparison(found, path, ground_truth=args.ground_truth, images=args.images)
    print(f"\nside by side, in any browser: {written}")
    return 0


VERB = Verb("A B", "two models of the same images, as a table and as a page for the browser", _arguments, _run, TEXT)
