"""The command line: `loftr-sfm IMAGES OUT` is the whole run, verbs do the rest. It parses, calls and prints.

Options are made from the dataclasses of sfm.options. Exit codes: 0 done, 2 the user's error in one
line, 3 no model, 4 a model that is probably bad, 130 interrupted. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from sfm import __version__
from sfm.cli import commands as verbs
from sfm.cli.parsing import PROGRAM, Parser, add_options, options_from
from sfm.errors import BadOption, NoModel, SfMError
from sfm.system.interrupts import end_at_sigterm, ended_in_time
from sfm.system.memory import is_exhausted

STAGES = ("images", "pairs", "matching", "verification", "tracks", "mapping", "refinement")

EXAMPLES = f"""\
examples:
  {PROGRAM} photos/ out/                      a folder of photos in, out/sparse/0 (COLMAP), out/points.ply
  {PROGRAM} photos/ out/ --pairs sequential   photos taken in a row: each with its next 10 only
  {PROGRAM} photos/ out/ --resize 1024        finer matches, more time
  {PROGRAM} photos/ out/ --matcher sift       the same photos by COLMAP's SIFT
  {PROGRAM} photos/ out/ --mapper global      COLMAP's global mapping: all photos at once
  {PROGRAM} photos/ out/ --known-poses MODEL  keep a COLMAP model's cameras and poses, triangulate only
  {PROGRAM} photos/ out/ --stop-after tracks  all but the mapping; the same command without it carries on

The same command again reuses what still holds: after an interruption it carries on, with other options it
redoes what depends on them, with more photos it matches the new ones only.

other verbs (each has its own --help):
  {PROGRAM} demo [OUT]                        reconstruct a shipped scene, compare with the truth
  {PROGRAM} match A B [OUT]                   two photos: matches, fundamental matrix, relative pose, figures
  {PROGRAM} compare A B [--ground-truth GT]   two models side by side, as a table and as a page for the browser
  {PROGRAM} evaluate model|pairs|imc2022 ...  a model or a matcher against known cameras, as the literature does
  {PROGRAM} view OUT [OTHER]                  look at one model, or at two beside each other; also as PNG and GIF
  {PROGRAM} report OUT                        write OUT/report.html anew
  {PROGRAM} export OUT FORMAT [DEST]          nerfstudio, undistorted, ply, text, nvm, bundler, hloc
  {PROGRAM} import IMAGES OUT --features F --matches M    carry on from hloc's files
  {PROGRAM} inspect OUT                       what the feature database holds, stage by stage
  {PROGRAM} weights list|fetch|check          the network's weights on this machine
  {PROGRAM} train --photos FOLDER --out RUN   train compact weights
A folder that bears a verb's name is written ./demo.

exit codes: 0 done, 2 something to mend first (told in one line), 3 no model (told why), 4 a model, but one that is
probably bad (told by which signs), 130 interrupted (the same command carries on)
"""


# --- verbs: parse, call, print ------------------------------------------------------------------


def _reconstruct(argv: Sequence[str]) -> int:
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} IMAGES OUT [options]   |   {PROGRAM} VERB ...",
        description="A folder of photos in, a sparse 3D model out, by detector-free matching (LoFTR).",
        epilog=EXAMPLES,
    )
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photos (JPEG, PNG, TIFF, WebP)")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results; made if absent")
    _add_run_options(parser)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    args = parser.parse_args(argv)
    return _run(args.images, args.out, args)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stop-after", choices=STAGES, metavar="STAGE", help=f"last stage to run: {', '.join(STAGES)}")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the resolved options and COLMAP's log")
    add_options(parser)


def _run(folder: Path, out: Path, args: argparse.Namespace, **more: Any) -> int:
    """One run with the parsed options; prints a line a stage and the summary. Returns the exit code."""
    options = options_from(args)
    if args.verbose:
        print(json.dumps(options.as_dict(), indent=2))
    else:
        os.environ.setdefault("GLOG_minloglevel", "2")  # COLMAP's log: errors only
    from sfm.pipeline.run import reconstruct
    from sfm.results.summary import PROBABLY_BAD, stage_text, summary_text

    end_at_sigterm()
    summary = reconstruct(
        folder,
        out,
        options,
        stop_after=args.stop_after,
        on_stage=lambda stage: print(stage_text(stage), flush=True),
        **more,
    )
    print("\n" + summary_text(summary, folder, out, matcher=options.matching.matcher), flush=True)
    if summary.doubts:
        print(f"{PROGRAM}: {PROBABLY_BAD} (exit code 4): {'; '.join(d.text for d in summary.doubts)}", file=sys.stderr)
    return 4 if summary.doubts else 0


def _demo(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} demo", description="Reconstruct a shipped scene, compare it with the truth.")
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo"), metavar="OUT", help="folder (default: demo)")
    _add_run_options(parser)
    args = parser.parse_args(argv)
    from sfm.cli.demo import prepare, report

    photos = prepare(args.out)
    code = _run(photos, args.out, args)
    if args.stop_after in (None, STAGES[-1]):
        print("\n" + report(args.out))
    return code


def _import(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} import", description="Reconstruct from hloc's feature and match files.")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="the folder of photos that hloc worked on")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument("--features", type=Path, required=True, metavar="FILE", help="hloc's feature file (HDF5)")
    parser.add_argument("--matches", type=Path, required=True, metavar="FILE", help="hloc's match file (HDF5)")
    _add_run_options(parser)
    args = parser.parse_args(argv)
    from sfm.pipeline.stages import HlocFiles

    return _run(args.images, args.out, args, imported=HlocFiles(args.features, args.matches))


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"demo": _demo, "import": _import, **verbs.VERBS}


class _LogLine(logging.Handler):
    """Warnings as one line on standard error, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message."""
        from tqdm import tqdm

        tqdm.write(f"{PROGRAM}: {record.getMessage()}", file=sys.stderr)


def _interrupted(name: str, argv: Sequence[str]) -> str:
    """What is said after Ctrl-C."""
    carries_on = name not in verbs.VERBS or name in verbs.CARRY_ON
    again = "the same command carries on" if carries_on else "to have it done, give the same command again"
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
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # of damaged photos, which are skipped with the reason
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a photo's name must not end a run
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
            return VERBS[name](argv[1:]) if name else _reconstruct(argv)
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
