"""compare OUT...: models of the same images."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import Parser, Verb

TEXT = """\
A table with a column for each model: images, points, track lengths, errors, how far their cameras agree, and with
--ground-truth the pose AUC of each; and which is better. The page shows them in 3D, side by side or overlaid."""


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="OUT",
        help="two or more: OUT, OUT/sparse/N or COLMAP models",
    )
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="COLMAP model with the true poses")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="page to write (default: compare_SECOND.html in the first OUT)"
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")


def _run(args: Namespace) -> int:
    from sfm.evaluation.comparison import compare, format_table, letters
    from sfm.report.comparison import default_path, write_comparison
    from sfm.report.ranking import rank
    from sfm.results.console import print_warnings, refused_by, warnings_text

    found = compare(args.models, args.ground_truth)
    print(format_table(found))
    print_warnings(*args.models)
    warned = [bool(warnings_text(path)) for path in args.models]
    print(f"\n{rank(found, letters(found), warned, list(map(refused_by, args.models))).sentence}")
    path = args.report or default_path(args.models)
    written = write_comparison(found, path, ground_truth=args.ground_truth, images=args.images)
    print(f"\nside by side, in any browser: {written}")
    return 0


VERB = Verb("OUT...", "models of the same images, as a table and as a page for the browser", _arguments, _run, TEXT)
