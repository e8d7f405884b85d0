"""evaluate model|pairs|imc2022: against known cameras, by the field's metrics."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_model_number, add_options, options_from
from sfm.evaluation.options import ChallengeEvaluation, PairEvaluation
from sfm.system.interrupts import end_at_sigterm

FORMS = {
    "model": "a model against true poses: AUC@1/3/5 over the relative poses of all pairs of images",
    "pairs": "a matcher on pairs of images: AUC@5/10/20 of the relative pose that each pair's matches give",
    "imc2022": "a matcher on the Image Matching Challenge 2022: mean Average Accuracy, or submission.csv",
}
PAIRS_GT = "COLMAP model of the images, or a file of pairs with cameras (name0 name1 rot0 rot1 K0 K1 T_0to1)"
EXAMPLES = f"""\
examples:
  {PROGRAM} evaluate model out/ gt/                          a run's model against a COLMAP model
  {PROGRAM} evaluate pairs images/ gt/ --weights compact     all pairs of a COLMAP model whose views may overlap
  {PROGRAM} evaluate pairs images/ gt/ --pairs pairs.txt     two names per line
  {PROGRAM} evaluate pairs scannet/ pairs_with_gt.txt        published test sets of pairs with cameras
  {PROGRAM} evaluate imc2022 image-matching-challenge-2022/ --max-pairs 100
  {PROGRAM} evaluate imc2022 image-matching-challenge-2022/ --split test

Results are in --out as JSON, also per pair: a run that was stopped resumes with the same command.
"""


def _arguments(parser: Parser) -> None:
    forms = parser.add_subparsers(required=True, metavar="|".join(FORMS))
    model, pairs, imc = (forms.add_parser(name, help=text, description=text) for name, text in FORMS.items())
    model.add_argument("path", type=Path, metavar="MODEL", help="OUT of a run or of refine, or a COLMAP model")
    add_model_number(model)
    model.add_argument("ground_truth", type=Path, metavar="GT", help="COLMAP model with the true poses")
    pairs.add_argument("images", type=Path, metavar="IMAGES", help="folder of images")
    pairs.add_argument("ground_truth", type=Path, metavar="GT", help=PAIRS_GT)
    imc.add_argument("folder", type=Path, metavar="FOLDER", help="has train/, or test.csv and test_images/")
    for form, run in ((model, _model), (pairs, _pairs), (imc, _imc2022)):
        form.add_argument("--out", type=Path, default=Path("evaluation"), help="results (default: evaluation)")
        form.set_defaults(run_form=run)
    add_options(pairs, PairEvaluation)
    add_options(imc, ChallengeEvaluation)


def _model(args: Namespace) -> None:
    from sfm.colmap.model_reader import model_folder
    from sfm.evaluation.model import report
    from sfm.results.console import print_warnings

    path = args.path if args.model is None else model_folder(args.path, args.model)
    print(report(path, args.ground_truth, args.out))
    print_warnings(path)


def _pairs(args: Namespace) -> None:
    from sfm.evaluation.pair_poses import evaluate_pairs

    print(evaluate_pairs(args.images, args.ground_truth, args.out, options_from(args, PairEvaluation)))


def _imc2022(args: Namespace) -> None:
    from sfm.evaluation.imc2022 import evaluate_challenge

    print(evaluate_challenge(args.folder, args.out, options_from(args, ChallengeEvaluation)))


def _run(args: Namespace) -> int:
    os.environ.setdefault("GLOG_minloglevel", "2")
    end_at_sigterm()
    args.run_form(args)
    return 0


VERB = Verb(
    "model|pairs|imc2022 ...",
    "a model or a matcher against known cameras",
    _arguments,
    _run,
    "How good a model or a matcher is, by the metrics of the literature; each form has its own --help.",
    EXAMPLES,
    carries_on=True,
)
