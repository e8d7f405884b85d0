"""The command line: `loftr-sfm IMAGES OUT` is the whole run, verbs (sfm.cli.commands) do the rest.

Exit codes: 0 done, 2 the user's error in one line, 3 no model, 4 a model that is probably bad, 130 interrupted. Nothing
heavy is imported before a verb needs it.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from sfm.cli.commands import VERBS
from sfm.cli.overview import description
from sfm.cli.parsing import PROGRAM, Parser
from sfm.cli.suggestions import nearest
from sfm.cli.verbs.runs import WHOLE
from sfm.errors import BadOption, NoModel, SfMError
from sfm.system.interrupts import ended_in_time
from sfm.system.memory import is_exhausted


def parser_of(name: str) -> Parser:
    """The parser of a verb; of the whole run for ""."""
    if not name:
        usage = f"{PROGRAM} {WHOLE.usage} [options]   |   {PROGRAM} VERB ..."
        parser = Parser(prog=PROGRAM, usage=usage, description=description(VERBS), epilog=WHOLE.examples)
        WHOLE.add_arguments(parser)
        return parser
    verb = VERBS[name]
    text = f"{verb.help[0].upper()}{verb.help[1:]}." + (f"\n\n{verb.text}" if verb.text else "")
    whole = None if verb.usage.endswith("...") else f"{PROGRAM} {name} {verb.usage} [options]"
    parser = Parser(prog=f"{PROGRAM} {name}", usage=whole, description=text, epilog=verb.examples or None)
    verb.add_arguments(parser)
    return parser


def _refuse_misspelt_verb(argv: Sequence[str]) -> None:
    """BadOption for a first word that is like a verb's name, where no folder is called so."""
    word = argv[0] if argv else "-"
    if word.startswith("-") or word in VERBS or os.sep in word or Path(word).exists():
        return
    near = nearest(word, VERBS, cutoff=0.7)
    if near is not None:
        raise BadOption(f"{word}: neither a verb nor a folder; did you mean {PROGRAM} {near}?")


class _LogLine(logging.Handler):
    """Warnings as one line on standard error, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message."""
        from tqdm import tqdm

        tqdm.write(f"{PROGRAM}: {record.getMessage()}", file=sys.stderr)


def _interrupted(name: str, argv: Sequence[str]) -> str:
    """What is said after Ctrl-C."""
    carries_on = (VERBS[name] if name else WHOLE).carries_on
    again = "the same command resumes" if carries_on else "to have it done, give the same command again"
    return f"{PROGRAM}: interrupted; {again}: {shlex.join([PROGRAM, *argv])}"


def _check_text(argv: Sequence[str]) -> None:
    """BadOption for a name that is no text: HDF5 and COLMAP cannot open it, nor can it be printed."""
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise BadOption(f"{word}: the name is not valid UTF-8: rename it") from None


def _set_up_output() -> None:
    """One line for each warning of ours, none of Pillow's, and names as far as the terminal can show them."""
    warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF, which counts as none
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # of damaged images, which are skipped with the reason
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show an image's name must not end a run
            stream.reconfigure(errors="backslashreplace")
    log = logging.getLogger("sfm")
    log.handlers = [_LogLine()]
    log.propagate = False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _set_up_output()
    name = argv[0] if argv and argv[0] in VERBS else ""
    interrupted = _interrupted(name, argv)
    try:
        with ended_in_time(interrupted):
            _check_text(argv)
            _refuse_misspelt_verb(argv)
            args = parser_of(name).parse_args(argv[1:] if name else argv)
            return (VERBS[name] if name else WHOLE).run(args)
    except NoModel as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 3
    except SfMError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    except Exception as error:
        if not is_exhausted(error):
            raise
        advice = "what is done is kept; lower --memory, --resize or --align-size, or close other programs"
        print(f"{PROGRAM}: error: out of memory; {advice}", file=sys.stderr)
        return 2
