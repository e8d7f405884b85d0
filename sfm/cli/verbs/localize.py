"""localize MODEL IMAGES [OUT]: poses of new images in a finished model."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_options, options_from
from sfm.errors import BadFile
from sfm.localization.options import LocalizeOptions

TEXT = """\
Finds where new images were taken, without changing anything of the model: a pose with its covariance, and how many
correspondences of pixels and points it explains. MODEL is the output folder of a run, or a COLMAP model of any origin
(then --model-images names the folder of its images). Writes OUT/localized.json, and OUT/sparse/0: a COLMAP model of the
old images and the new ones."""
EXAMPLES = f"""\
examples:
  {PROGRAM} localize out/ new/                              to out/localized
  {PROGRAM} localize out/ new/photo.jpg where/              one image
  {PROGRAM} localize colmap/ new/ where/ --model-images images/
To have the new images change the model too, put them to the others and run {PROGRAM} again.
"""


def _arguments(parser: Parser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="OUT of a run, or a COLMAP model")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of new images, or one image")
    parser.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="folder of the results (default: MODEL/localized)"
    )
    parser.add_argument(
        "--model-images", type=Path, metavar="FOLDER", help="the model's images (default: where the run found them)"
    )
    add_options(parser, LocalizeOptions)


def _run(args: Namespace) -> int:
    os.environ.setdefault("GLOG_minloglevel", "2")
    from sfm.localization.report import text
    from sfm.localization.run import localize
    from sfm.results.files import RUN_JSON
    from sfm.results.run_json import images_folder

    options = options_from(args, LocalizeOptions)
    out = args.out or args.model / "localized"
    if args.model_images is None and not (args.model / RUN_JSON).is_file():
        raise BadFile(f"{args.model}: names no folder of its images; give --model-images FOLDER")
    found = localize(args.model, args.images, out, args.model_images or images_folder(args.model), options)
    print(text(found, out))
    return 0 if any(one.pose is not None for one in found) else 3


VERB = Verb("MODEL IMAGES [OUT]", "poses of new images in a finished model", _arguments, _run, TEXT, EXAMPLES)
