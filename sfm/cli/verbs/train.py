"""train: weights of our own."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from sfm.cli.parsing import PROGRAM, Parser, Verb, one_of

TEXT = """\
Trains LoFTR, the compact network or a published one, on pairs from any of: a folder of images, COLMAP models with their
images, RGB-D sequences with poses, the Image Matching Challenge 2022's training set. The same command carries on after
an interruption. Writes OUT/weights.safetensors, OUT/curves.png and OUT/held_out.csv (docs/training.md)."""
EXAMPLES = f"""\
examples:
  {PROGRAM} train --images photos/ --out run/ --hours 12          compact weights from warped images
  {PROGRAM} train --init compact --rgbd rooms/ --out run/         fine-tuned on rooms
  {PROGRAM} train --init compact --wide --images photos/ --rgbd rooms/ --on-device --batch 64 --out run/    on a GPU
  {PROGRAM} train --init outdoor --imc2022 imc/ --out run/ --size 480 640 --learning-rate 1e-4
  torchrun --nproc-per-node 4 --no-python {PROGRAM} train --init outdoor --scenes sets/ --out run/    four GPUs
then: {PROGRAM} IMAGES OUT --weights run/weights.safetensors
"""
RATE = "of the transformers; the CNN learns at half of it (default: 1e-3; with --init rather 1e-4 to 8e-4)"


def _arguments(parser: Parser) -> None:
    folder: dict[str, Any] = {"type": Path, "metavar": "FOLDER"}
    parser.add_argument("--out", required=True, help="checkpoints, weights, log and curves", **folder)
    parser.add_argument("--images", "--photos", help="images, warped and put on made bodies and walls", **folder)
    scenes = "image sets NAME/images, with a COLMAP model in NAME/sparse or one that SIFT makes of them"
    parser.add_argument("--scenes", help=scenes, **folder)
    parser.add_argument("--model", type=Path, metavar="MODEL", help="a COLMAP model of --model-images")
    parser.add_argument("--model-images", help="the images of --model", **folder)
    rgbd = "sequence (or folder of some): images/, depth/ (16-bit PNG, mm), poses.txt (world_from_cam), K.txt"
    parser.add_argument("--rgbd", help=rgbd, **folder)
    parser.add_argument("--imc2022", help="training set of the Image Matching Challenge 2022", **folder)
    init = "weights to start from: a name, a checkpoint, or XFeat's xfeat.pt (default: a new compact network)"
    parser.add_argument("--init", metavar="NAME|FILE", help=init)
    wide = "with the stage of compact-wide that looks at both images as a whole, for rooms and wide baselines"
    parser.add_argument("--wide", action="store_true", help=wide)
    parser.add_argument("--hours", type=float, default=2.0, metavar="H", help="length of the whole run (default: 2)")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="length in steps instead of hours")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="pairs per step (default: 4)")
    size = "of the pairs, px, multiples of 32 (default: 256 320)"
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320), metavar=("H", "W"), help=size)
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help=RATE)
    evaluations = "times that held-out pairs are evaluated in the run (default: 10)"
    parser.add_argument("--evaluations", type=int, default=10, metavar="N", help=evaluations)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make pairs (default: 1)")
    on_device = "the device that trains makes the pairs, of rendered scenes too; for a GPU (docs/training.md)"
    parser.add_argument("--on-device", action="store_true", help=on_device)
    parser.add_argument("--device", default="auto", **one_of("auto", "cpu", "cuda"), help="(default: auto)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")


def _run(args: Namespace) -> int:
    from sfm.training.options import TrainOptions
    from sfm.training.run import run_training

    values = {name: getattr(args, name) for name in TrainOptions.__dataclass_fields__}
    print(run_training(TrainOptions(**{**values, "size": tuple(args.size)})))
    return 0


VERB = Verb("--images FOLDER --out RUN", "train weights of your own", _arguments, _run, TEXT, EXAMPLES, carries_on=True)
