"""The whole run: of a folder of images, of the demo's, and from hloc's matches."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from sfm import __version__
from sfm.cli.parsing import PROGRAM, Parser, Verb, add_options, one_of, options_from
from sfm.options import STAGE_NAMES, Options
from sfm.system.interrupts import end_at_sigterm

EXAMPLES = f"""\
examples:
  {PROGRAM} images/ out/ --pairs sequential   images taken in a row: each with its next ones
  {PROGRAM} clip.mp4 out/                     a video: frames that are sharp and apart; they are in out/frames
  {PROGRAM} clip.mp4 out/ --frames 200        so many of them, or --frames 2fps
  {PROGRAM} images/ out/ --resize 1024        finer matches, more time
  {PROGRAM} images/ out/ --matcher sift       the same images by COLMAP's SIFT
  {PROGRAM} images/ out/ --mapper global      COLMAP's global mapping: all images at once
  {PROGRAM} images/ out/ --intrinsics 2759.5,1520.7,1006.8,0   a known camera (f,cx,cy,k), px
  {PROGRAM} images/ out/ --known-poses MODEL  keep a COLMAP model's cameras and poses, triangulate only
  {PROGRAM} images/ out/ --stop-after tracks  stop before mapping; the same command without it resumes

The same command again reuses what is still valid: after an interruption it resumes, with other options it redoes what
depends on them, with more images it matches only the new pairs.

exit codes: 0 done; 2 unusable input or options, in one line; 3 no model, with the reason for each image; 4 a model that
is probably bad, with warnings; 130 interrupted, the same command resumes
"""
STAGE_HELP = f"last stage to run: {', '.join(STAGE_NAMES)}"


def _add_run_options(parser: Parser) -> None:
    stages = one_of(*STAGE_NAMES) | {"metavar": "STAGE"}
    parser.add_argument("--stop-after", **stages, help=STAGE_HELP)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print the resolved options, and what COLMAP warns of"
    )
    add_options(parser)


def _run(folder: Path, out: Path, args: Namespace, **more: Any) -> int:
    """One run with the parsed options; prints a line per stage and the summary. Returns the exit code."""
    options = options_from(args, Options)
    if args.verbose:
        print(json.dumps(options.as_dict(), indent=2))
    else:
        os.environ.setdefault("GLOG_minloglevel", "2")  # COLMAP's log: errors only
    from sfm.pipeline.run import reconstruct
    from sfm.results.console import bad_model_line, print_stage, summary_text

    end_at_sigterm()
    summary = reconstruct(folder, out, options, stop_after=args.stop_after, on_stage=print_stage, **more)
    print("\n" + summary_text(summary, folder, out, matcher=options.matching.matcher), flush=True)
    if summary.warnings:
        print(f"{PROGRAM}: {bad_model_line([warning.text for warning in summary.warnings])}", file=sys.stderr)
    return 4 if summary.warnings else 0


def _whole_arguments(parser: Parser) -> None:
    parser.add_argument(
        "images",
        type=Path,
        metavar="IMAGES",
        help="folder of images (JPEG, PNG, HEIC, AVIF, TIFF, WebP, RAW), or a video",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results; made if absent")
    _add_run_options(parser)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")


def _whole(args: Namespace) -> int:
    return _run(args.images, args.out, args)


def _demo_arguments(parser: Parser) -> None:
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo"), metavar="OUT", help="folder (default: demo)")
    _add_run_options(parser)


def _demo(args: Namespace) -> int:
    from sfm.cli.demo import prepare, report

    code = _run(prepare(args.out), args.out, args)
    if args.stop_after in (None, STAGE_NAMES[-1]):
        print("\n" + report(args.out))
    return code


def _import_arguments(parser: Parser) -> None:
    parser.add_argument("images", type=Path, metavar="IMAGES", help="the folder of images that hloc worked on")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument("--features", type=Path, required=True, metavar="FILE", help="hloc's feature file (HDF5)")
    parser.add_argument("--matches", type=Path, required=True, metavar="FILE", help="hloc's match file (HDF5)")
    _add_run_options(parser)


def _import(args: Namespace) -> int:
    from sfm.pipeline.stages import HlocFiles

    return _run(args.images, args.out, args, imported=HlocFiles(args.features, args.matches))


WHOLE = Verb("IMAGES OUT", "reconstruct a folder of images", _whole_arguments, _whole, "", EXAMPLES, True)
DEMO = Verb(
    "[OUT]",
    "reconstruct a shipped scene, and measure the error against its ground truth",
    _demo_arguments,
    _demo,
    "Takes about a minute, without a GPU and without a download. The options are those of a run.",
    carries_on=True,
)
IMPORT = Verb(
    "IMAGES OUT --features F --matches M",
    "reconstruct from hloc's feature and match files",
    _import_arguments,
    _import,
    "As a run of IMAGES, with hloc's matches. Options of pairs and of the matcher do not apply.",
    carries_on=True,
)
