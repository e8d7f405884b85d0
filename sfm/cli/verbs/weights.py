"""weights list|fetch|check: the network's weights on this machine."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from sfm.cli.parsing import PROGRAM, Parser, Verb, one_of
from sfm.errors import BadOption

EXAMPLES = f"""\
examples:
  {PROGRAM} weights list             names, purpose, licence, and what is on this machine
  {PROGRAM} weights fetch outdoor    download now, to work --offline later
  {PROGRAM} weights check            checksums of what is here; or of files
"""


def _arguments(parser: Parser) -> None:
    actions = one_of("list", "fetch", "check")
    parser.add_argument("action", **actions, help="list them, download some, check files")
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help="names (see list); check takes files too")
    parser.add_argument("--offline", action="store_true", help="never use the network")


def _run(args: Namespace) -> int:
    from sfm.weights import verbs as weights

    if args.action == "fetch" and not args.names:
        raise BadOption(f"weights fetch: name the weights to download (see {PROGRAM} weights list)")
    texts: dict[str, Callable[[], str]] = {
        "list": weights.list_text,
        "fetch": lambda: weights.fetch_text(args.names, offline=args.offline),
        "check": lambda: weights.check_text(args.names),
    }
    print(texts[args.action]())
    return 0


VERB = Verb("list|fetch|check", "the network's weights on this machine", _arguments, _run, "", EXAMPLES)
