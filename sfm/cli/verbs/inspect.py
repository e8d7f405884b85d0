"""inspect OUT: what a run's feature database holds."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import Parser, Verb

TEXT = "Stage by stage: counts, seconds, the matcher and its weights, and which images were left out and why."


def _arguments(parser: Parser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run, or its features.h5")


def _run(args: Namespace) -> int:
    from sfm.results.console import print_warnings
    from sfm.results.inspect import database_text

    print(database_text(args.out))
    print_warnings(args.out)
    return 0


VERB = Verb("OUT", "what the feature database holds, stage by stage", _arguments, _run, TEXT)
