"""The command line: `loftr-sfm IMAGES OUT` is the whole run, verbs do the rest. It parses, calls and prints.

Options are made from the dataclasses of sfm.options. Exit codes: 0 done, 2 the user's error in one
line, 3 no model, 130 interrupted. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from sfm import __version__
from sfm.errors import NoModel, SfMError
from sfm.options import ChallengeEvaluation, MatchOptions, Options, PairEvaluation

Root = TypeVar("Root", Options, MatchOptions, PairEvaluation, ChallengeEvaluation)

PROGRAM = "loftr-sfm"
FORMATS = ("nerfstudio", "undistorted", "ply", "text", "nvm", "bundler", "hloc")
STAGES = ("images", "pairs", "matching", "verification", "tracks", "mapping", "refinement")

EVALUATIONS = {
    "model": "a model against true poses: AUC@1/3/5 over the relative poses of all pairs of photos",
    "pairs": "a matcher on pairs of photos: AUC@5/10/20 of the relative pose that each pair's matches give",
    "imc2022": "a matcher on the Image Matching Challenge 2022: mean Average Accuracy, or submission.csv",
}
TRUTH_OF_PAIRS = "COLMAP model of the photos, or a file of pairs with cameras (name0 name1 rot0 rot1 K0 K1 T_0to1)"

EVALUATE_EXAMPLES = f"""\
examples:
  {PROGRAM} evaluate model out/ gt/                          a run's model against a COLMAP model
  {PROGRAM} evaluate pairs photos/ gt/ --weights compact     all pairs of a COLMAP model whose views may overlap
  {PROGRAM} evaluate pairs photos/ gt/ --pairs pairs.txt     two names a line
  {PROGRAM} evaluate pairs scannet/ pairs_with_gt.txt        published test sets of pairs with cameras
  {PROGRAM} evaluate imc2022 image-matching-challenge-2022/ --max-pairs 100
  {PROGRAM} evaluate imc2022 image-matching-challenge-2022/ --split test

Results are in --out as JSON, pair by pair too: a run that was stopped carries on with the same command.
"""

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
"""


class _Parser(argparse.ArgumentParser):
    """Errors are one line and exit code 2; options are not guessed from their beginnings."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Prints the message as one line and exits with 2."""
        self.exit(2, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


# --- options from dataclasses -------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, root: type[Any] = Options) -> None:
    """An option for every field of every stage's dataclass, grouped by stage, with its help and its default."""
    for stage, kind in get_type_hints(root).items():
        group = parser.add_argument_group(f"{stage}: {(kind.__doc__ or '').rstrip('.')}")
        hints = get_type_hints(kind)
        for option in (option for option in fields(kind) if option.init):
            group.add_argument("--" + option.name.replace("_", "-"), **_argument(stage, option, hints[option.name]))


def _argument(stage: str, option: Field[Any], hint: Any) -> dict[str, Any]:
    shared = {"dest": f"{stage}.{option.name}", "default": option.default, "help": option.metadata["help"]}
    if hint is bool:
        return {**shared, "action": "store_true"}
    if option.default is not None:
        shared["help"] += f" (default: {option.default})"
    kind = next((arg for arg in get_args(hint) if arg is not type(None)), hint)
    choices = option.metadata.get("choices")
    return {**shared, "type": kind, "choices": choices, "metavar": option.metadata.get("metavar")}


def options_from(args: argparse.Namespace, root: type[Root] = Options) -> Root:  # type: ignore[assignment]
    """The options that were parsed. Raises BadOption for values that make no sense."""
    return root(
        **{
            stage: kind(**{o.name: getattr(args, f"{stage}.{o.name}") for o in fields(kind) if o.init})
            for stage, kind in get_type_hints(root).items()
        }
    )


# --- verbs: parse, call, print ------------------------------------------------------------------


def _reconstruct(argv: Sequence[str]) -> int:
    parser = _Parser(
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
    _run(args.images, args.out, args)
    return 0


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stop-after", choices=STAGES, metavar="STAGE", help=f"last stage to run: {', '.join(STAGES)}")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the resolved options and COLMAP's log")
    add_options(parser)


def _run(folder: Path, out: Path, args: argparse.Namespace, **more: Any) -> None:
    """One run with the parsed options; prints a line a stage and the summary."""
    options = options_from(args)
    if args.verbose:
        print(json.dumps(options.as_dict(), indent=2))
    else:
        os.environ.setdefault("GLOG_minloglevel", "2")  # COLMAP's log: errors only
    from sfm.pipeline import reconstruct
    from sfm.summary import stage_text, summary_text

    summary = reconstruct(
        folder,
        out,
        options,
        stop_after=args.stop_after,
        on_stage=lambda stage: print(stage_text(stage), flush=True),
        **more,
    )
    print("\n" + summary_text(summary, folder, out))


def _demo(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} demo", description="Reconstruct a shipped scene, compare it with the truth.")
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo"), metavar="OUT", help="folder (default: demo)")
    _add_run_options(parser)
    args = parser.parse_args(argv)
    from sfm.demo import prepare, report

    photos = prepare(args.out)
    _run(photos, args.out, args)
    if args.stop_after in (None, STAGES[-1]):
        print("\n" + report(args.out))
    return 0


def _match(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} match", description="Two photos: matches, F, relative pose; figures and JSON.")
    parser.add_argument("a", type=Path, metavar="A", help="a photo")
    parser.add_argument("b", type=Path, metavar="B", help="another photo of the same place")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder of the results (default: match_A_B)")
    add_options(parser, MatchOptions)
    args = parser.parse_args(argv)
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.views.match_folder import match_to_folder

    print(match_to_folder(args.a, args.b, args.out, options_from(args, MatchOptions)))
    return 0


def _import(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} import", description="Reconstruct from hloc's feature and match files.")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="the folder of photos that hloc worked on")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument("--features", type=Path, required=True, metavar="FILE", help="hloc's feature file (HDF5)")
    parser.add_argument("--matches", type=Path, required=True, metavar="FILE", help="hloc's match file (HDF5)")
    _add_run_options(parser)
    args = parser.parse_args(argv)
    from sfm.pipeline import HlocFiles

    _run(args.images, args.out, args, imported=HlocFiles(args.features, args.matches))
    return 0


def _compare(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} compare", description="Two models of the same photos side by side.")
    parser.add_argument("a", type=Path, metavar="A", help="OUT of a run, or a COLMAP model")
    parser.add_argument("b", type=Path, metavar="B", help="OUT of another run, or a COLMAP model")
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="COLMAP model with the true poses")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page to write (default: A/compare_B.html)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    args = parser.parse_args(argv)
    from sfm.comparison import compare, format_table
    from sfm.views.report_compare import default_path, write_comparison

    found = compare(args.a, args.b, args.ground_truth)
    print(format_table(found))
    path = args.report or default_path(args.a, args.b)
    written = write_comparison(found, path, ground_truth=args.ground_truth, images=args.images)
    print(f"\nside by side, in any browser: {written}")
    return 0


def _report(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} report", description="Write OUT/report.html anew, as every run does at its end.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    args = parser.parse_args(argv)
    from sfm.views.report import write_report

    print(write_report(args.out, args.images))
    return 0


def _evaluate(argv: Sequence[str]) -> int:
    args = _evaluation_parser().parse_args(argv)
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm import challenge, evaluation, pair_evaluation

    if args.form == "model":
        print(evaluation.report(args.model, args.ground_truth, args.out))
    elif args.form == "pairs":
        options = options_from(args, PairEvaluation)
        print(pair_evaluation.evaluate_pairs(args.images, args.ground_truth, args.out, options))
    else:
        print(challenge.evaluate_challenge(args.folder, args.out, options_from(args, ChallengeEvaluation)))
    return 0


def _evaluation_parser() -> _Parser:
    text = "How good a model or a matcher is, against known cameras."
    parser = _Parser(prog=f"{PROGRAM} evaluate", description=text, epilog=EVALUATE_EXAMPLES)
    forms = parser.add_subparsers(dest="form", required=True, metavar="|".join(EVALUATIONS))
    model, pairs, imc = (forms.add_parser(name, help=text, description=text) for name, text in EVALUATIONS.items())
    model.add_argument("model", type=Path, metavar="MODEL", help="OUT of a run, or a COLMAP model")
    model.add_argument("ground_truth", type=Path, metavar="GT", help="COLMAP model with the true poses")
    pairs.add_argument("images", type=Path, metavar="IMAGES", help="folder of photos")
    pairs.add_argument("ground_truth", type=Path, metavar="GT", help=TRUTH_OF_PAIRS)
    imc.add_argument("folder", type=Path, metavar="FOLDER", help="has train/, or test.csv and test_images/")
    for form in (model, pairs, imc):
        form.add_argument("--out", type=Path, default=Path("evaluation"), help="results (default: evaluation)")
    add_options(pairs, PairEvaluation)
    add_options(imc, ChallengeEvaluation)
    return parser


def _view(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} view", description="Look at a model, or at two: in a window, or as pictures.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run, or a COLMAP model")
    parser.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="another one, laid over the first")
    parser.add_argument("--screenshot", type=Path, metavar="FILE", help="draw a PNG or JPEG; needs no display")
    parser.add_argument("--turntable", type=Path, metavar="FILE", help="draw a GIF of one turn; needs no display")
    parser.add_argument("--view", metavar="VIEW", help="overview, top, front, side, or a camera's name")
    parser.add_argument("--size", metavar="WxH", help="of the pictures, px (default: 1280x960, turntable 640x480)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    parser.add_argument("--max-error", type=float, metavar="PX", help="hide points with a higher reprojection error")
    parser.add_argument("--min-track", type=int, metavar="N", help="hide points that fewer photos see")
    parser.add_argument("--point-size", type=float, metavar="PX", help="(default: by the number of points)")
    parser.add_argument("--background", choices=("dark", "light"), help="(default: dark)")
    parser.add_argument("--color", dest="colour", choices=("rgb", "error", "length", "height"), help="of the points")
    parser.add_argument("--over", action="store_true", help="two models over each other, each in its colour")
    args = parser.parse_args(argv)
    from sfm.views.viewer import Request, view

    for path in view(Request.of(args)):
        print(path)
    return 0


def _export(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} export", description="Write a run's model in another program's format.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run")
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("dest", type=Path, nargs="?", metavar="DEST", help="folder to write (default: OUT/FORMAT)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    args = parser.parse_args(argv)
    from sfm.export import export
    from sfm.summary import export_hloc, images_folder

    dest = args.dest or args.out / args.format
    if args.format == "hloc":
        print(export_hloc(args.out, dest))
    else:
        images = args.images or images_folder(args.out)
        print(export(args.out / "sparse" / "0", images, dest, args.format))
    return 0


def _inspect(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} inspect", description="What the feature database of a run holds.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run, or its features.h5")
    args = parser.parse_args(argv)
    from sfm.summary import database_text

    print(database_text(args.out))
    return 0


def _weights(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} weights", description="The network's weights on this machine.")
    parser.add_argument("action", choices=("list", "fetch", "check"), help="list them, download some, check files")
    parser.add_argument("names", nargs="*", metavar="NAME", help="names (see list); check takes files too")
    parser.add_argument("--offline", action="store_true", help="never use the network")
    args = parser.parse_args(argv)
    from sfm import weights

    if args.action == "fetch" and not args.names:
        parser.error("weights fetch: name the weights to download")
    texts: dict[str, Callable[[], str]] = {
        "list": weights.list_text,
        "fetch": lambda: weights.fetch_text(args.names, offline=args.offline),
        "check": lambda: weights.check_text(args.names),
    }
    print(texts[args.action]())
    return 0


def _train(argv: Sequence[str]) -> int:
    parser = _Parser(prog=f"{PROGRAM} train", description="Train compact weights on pairs made from photos; resumable.")
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="photos to make pairs from")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="checkpoints and weights")
    parser.add_argument("--scenes", type=Path, metavar="FOLDER", help="photo sets NAME/images, for real pairs")
    parser.add_argument("--hours", type=float, default=2.0, metavar="H", help="length of the whole run (default: 2)")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="length in steps instead of hours")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="pairs a step (default: 4)")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320), metavar=("H", "W"), help="of the pairs, px")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make pairs (default: 1)")
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to start from: ours, or XFeat's xfeat.pt")
    rate = "of new layers; the pretrained ones learn at 0.3 of it (default: 1e-3, to train on from ours: 6e-4)"
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help=rate)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="(default: auto)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    args = parser.parse_args(argv)
    from sfm.training import run_training

    print(run_training(args))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": _demo,
    "match": _match,
    "compare": _compare,
    "evaluate": _evaluate,
    "view": _view,
    "report": _report,
    "export": _export,
    "import": _import,
    "inspect": _inspect,
    "weights": _weights,
    "train": _train,
}


class _LogLine(logging.Handler):
    """Warnings as one line on standard error, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message."""
        from tqdm import tqdm

        tqdm.write(f"{PROGRAM}: {record.getMessage()}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    log = logging.getLogger("sfm")
    log.handlers = [_LogLine()]
    log.propagate = False
    verb = VERBS.get(argv[0]) if argv else None
    try:
        return verb(argv[1:]) if verb else _reconstruct(argv)
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
        print(f"\n{PROGRAM}: interrupted; the same command carries on: {shlex.join([PROGRAM, *argv])}", file=sys.stderr)
        return 130
