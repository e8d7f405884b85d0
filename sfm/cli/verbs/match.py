"""match A B: two images."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_options, options_from
from sfm.two_view.options import MatchOptions

TEXT = """\
Prints how many matches there are, how many are inliers, and the rotation and the direction of the translation from A
to B, with warnings about them. Writes two_view.json (F, E, relative pose), matches.npz, and figures of the matches
and of the epipolar lines as PNG and PDF."""
EXAMPLES = f"""\
examples:
  {PROGRAM} match a.jpg b.jpg                          into match_a_b/
  {PROGRAM} match a.jpg b.jpg out/ --matcher sift      the same by SIFT
  {PROGRAM} match a.jpg b.jpg --features --attention 320,240   what the network sees
"""


def _arguments(parser: Parser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="an image")
    parser.add_argument("b", type=Path, metavar="B", help="another image of the same place")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder of the results (default: match_A_B)")
    add_options(parser, MatchOptions)


def _run(args: Namespace) -> int:
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.two_view.output_folder import match_to_folder

    print(match_to_folder(args.a, args.b, args.out, options_from(args, MatchOptions)))
    return 0


VERB = Verb(
    "A B [OUT]", "two images: matches, fundamental matrix, relative pose, figures", _arguments, _run, TEXT, EXAMPLES
)
