"""train: weights of the compact network."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, one_of

TEXT = "Trains the compact network on pairs that are made from images: warped, and of --scenes real ones. Resumable."
EXAMPLES = f"""\
example:
  {PROGRAM} train --photos images/ --out run/ --hours 12     then: {PROGRAM} IMAGES OUT --weights run/NAME.safetensors
"""
RATE = "of new layers; pretrained ones learn at 0.3 of it (default: 1e-3; to train on from ours: 6e-4)"


def _arguments(parser: Parser) -> None:
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="images to make pairs from")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="checkpoints and weights")
    parser.add_argument("--scenes", type=Path, metavar="FOLDER", help="image sets NAME/images, for real pairs")
    parser.add_argument("--hours", type=float, default=2.0, metavar="H", help="length of the whole run (default: 2)")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="length in steps instead of hours")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="pairs per step (default: 4)")
    size = "of the pairs, px, multiples of 32 (default: 256 320)"
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320), metavar=("H", "W"), help=size)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make pairs (default: 1)")
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to start from: ours, or XFeat's xfeat.pt")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help=RATE)
    parser.add_argument("--device", default="auto", **one_of("auto", "cpu", "cuda"), help="(default: auto)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")


def _run(args: Namespace) -> int:
    from sfm.training.run import run_training

    print(run_training(args))
    return 0


VERB = Verb("--photos FOLDER --out RUN", "train compact weights", _arguments, _run, TEXT, EXAMPLES, carries_on=True)
