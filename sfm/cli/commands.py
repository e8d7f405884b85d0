"""The verbs that look at, judge and hand on what there is: they parse, call and print.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, add_options, options_from
from sfm.options import ChallengeEvaluation, MatchOptions, PairEvaluation
from sfm.system.interrupts import end_at_sigterm

FORMATS = ("nerfstudio", "undistorted", "ply", "text", "nvm", "bundler", "hloc")

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


def _tell_doubts(*runs: Path | None) -> None:
    """On standard error what runs have against their own models."""
    from sfm.results.summary import doubts_text

    for text in filter(None, (doubts_text(run) for run in runs if run is not None)):
        print(text, file=sys.stderr)


def _match(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} match", description="Two photos: matches, F, relative pose; figures and JSON.")
    parser.add_argument("a", type=Path, metavar="A", help="a photo")
    parser.add_argument("b", type=Path, metavar="B", help="another photo of the same place")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder of the results (default: match_A_B)")
    add_options(parser, MatchOptions)
    args = parser.parse_args(argv)
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.two_view.output_folder import match_to_folder

    print(match_to_folder(args.a, args.b, args.out, options_from(args, MatchOptions)))
    return 0


def _compare(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} compare", description="Two models of the same photos side by side.")
    parser.add_argument("a", type=Path, metavar="A", help="OUT of a run, or a COLMAP model")
    parser.add_argument("b", type=Path, metavar="B", help="OUT of another run, or a COLMAP model")
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="COLMAP model with the true poses")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page to write (default: A/compare_B.html)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    args = parser.parse_args(argv)
    from sfm.evaluation.comparison import compare, format_table
    from sfm.report.comparison import default_path, write_comparison

    found = compare(args.a, args.b, args.ground_truth)
    print(format_table(found))
    _tell_doubts(args.a, args.b)
    path = args.report or default_path(args.a, args.b)
    written = write_comparison(found, path, ground_truth=args.ground_truth, images=args.images)
    print(f"\nside by side, in any browser: {written}")
    return 0


def _report(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} report", description="Write OUT/report.html anew, as every run does at its end.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    args = parser.parse_args(argv)
    from sfm.report.run import write_report

    print(write_report(args.out, args.images))
    _tell_doubts(args.out)
    return 0


def _evaluate(argv: Sequence[str]) -> int:
    args = _evaluation_parser().parse_args(argv)
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.evaluation import imc2022 as challenge
    from sfm.evaluation import model as evaluation
    from sfm.evaluation import pair_poses as pair_evaluation

    end_at_sigterm()
    if args.form == "model":
        print(evaluation.report(args.model, args.ground_truth, args.out))
        _tell_doubts(args.model)
    elif args.form == "pairs":
        options = options_from(args, PairEvaluation)
        print(pair_evaluation.evaluate_pairs(args.images, args.ground_truth, args.out, options))
    else:
        print(challenge.evaluate_challenge(args.folder, args.out, options_from(args, ChallengeEvaluation)))
    return 0


def _evaluation_parser() -> Parser:
    text = "How good a model or a matcher is, against known cameras."
    parser = Parser(prog=f"{PROGRAM} evaluate", description=text, epilog=EVALUATE_EXAMPLES)
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
    parser = Parser(prog=f"{PROGRAM} view", description="Look at a model, or at two: in a window, or as pictures.")
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
    from sfm.viewer.run import Request, view

    _tell_doubts(args.out, args.other)
    for path in view(Request.of(args)):
        print(path)
    return 0


def _export(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} export", description="Write a run's model in another program's format.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run")
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("dest", type=Path, nargs="?", metavar="DEST", help="folder to write (default: OUT/FORMAT)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the photos, where they have moved since")
    args = parser.parse_args(argv)
    from sfm.export.formats import export
    from sfm.results.summary import export_hloc, images_folder
    from sfm.system.safe_paths import refuse_links

    dest = args.dest or args.out / args.format
    if args.dest is None:
        refuse_links(args.out, [args.format])
    if args.format == "hloc":
        print(export_hloc(args.out, dest))
    else:
        images = args.images or images_folder(args.out)
        print(export(args.out / "sparse" / "0", images, dest, args.format))
        _tell_doubts(args.out)
    return 0


def _inspect(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} inspect", description="What the feature database of a run holds.")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run, or its features.h5")
    args = parser.parse_args(argv)
    from sfm.results.summary import database_text

    print(database_text(args.out))
    _tell_doubts(args.out)
    return 0


def _weights(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} weights", description="The network's weights on this machine.")
    parser.add_argument("action", choices=("list", "fetch", "check"), help="list them, download some, check files")
    parser.add_argument("names", nargs="*", metavar="NAME", help="names (see list); check takes files too")
    parser.add_argument("--offline", action="store_true", help="never use the network")
    args = parser.parse_args(argv)
    from sfm.weights import verbs as weights

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
    parser = Parser(prog=f"{PROGRAM} train", description="Train compact weights on pairs made from photos; resumable.")
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
    from sfm.training.run import run_training

    print(run_training(args))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "match": _match,
    "compare": _compare,
    "report": _report,
    "evaluate": _evaluate,
    "view": _view,
    "export": _export,
    "inspect": _inspect,
    "weights": _weights,
    "train": _train,
}
CARRY_ON = ("evaluate", "train")  # after an interruption, with what they did before
