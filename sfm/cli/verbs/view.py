"""view OUT [OTHER]: one model or two, in a window or as pictures."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_model_number, one_of
from sfm.errors import BadFile

TEXT = """\
Opens a window (Open3D): drag to rotate, click a camera for its image, H shows the keys. With --screenshot or
--turntable it writes pictures instead, which needs no display."""
EXAMPLES = f"""\
examples:
  {PROGRAM} view out/                              a window
  {PROGRAM} view out_sift/ out/                    two models side by side
  {PROGRAM} view out/ --screenshot model.png       no display needed
  {PROGRAM} view out/ --turntable model.gif --size 480x360
"""


def _arguments(parser: Parser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run or of refine, or a COLMAP model")
    parser.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="another one, shown side by side")
    add_model_number(parser)
    parser.add_argument("--over", action="store_true", help="two models overlaid, each in its colour")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")
    pictures = parser.add_argument_group("pictures instead of a window")
    pictures.add_argument("--screenshot", type=Path, metavar="FILE", help="write a PNG or JPEG; needs no display")
    pictures.add_argument("--turntable", type=Path, metavar="FILE", help="write a GIF of a full rotation")
    pictures.add_argument("--view", metavar="VIEW", help="overview, top, front, side, or an image's name")
    pictures.add_argument("--size", metavar="WxH", help="px (default: 1280x960, turntable 640x480)")
    _point_arguments(parser)


def _point_arguments(parser: Parser) -> None:
    points = parser.add_argument_group("what is shown of the points")
    points.add_argument("--max-error", type=float, metavar="PX", help="hide points with a higher reprojection error")
    points.add_argument("--min-track", type=int, metavar="N", help="hide points that fewer images see")
    points.add_argument("--point-size", type=float, metavar="PX", help="(default: by the number of points)")
    points.add_argument("--color", dest="colour", **one_of("rgb", "error", "length", "height"), help="(default: rgb)")
    points.add_argument("--background", **one_of("dark", "light"), help="(default: dark)")


def _run(args: Namespace) -> int:
    from sfm.results.console import print_warnings
    from sfm.viewer.run import Request, view

    if args.model is not None:
        from sfm.colmap.model_reader import model_folder

        args.out = model_folder(args.out, args.model)
    for folder in (args.out, args.other):
        if folder is not None and not folder.exists():
            raise BadFile(f"{folder}: no such folder; give the output folder of a run, or a COLMAP model")
    print_warnings(args.out, args.other)
    for path in view(Request.of(args)):
        print(path)
    return 0


VERB = Verb("OUT [OTHER]", "one model, or two, in a window or as PNG and GIF", _arguments, _run, TEXT, EXAMPLES)
