"""export MODEL FORMAT: a model for other programs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, add_model_number, entry_of
from sfm.cli.registries import exports

EXAMPLES = f"""\
examples:
  {PROGRAM} export out/ nerfstudio                     then: ns-train splatfacto --data out/nerfstudio
  {PROGRAM} export out/ undistorted splat/             COLMAP folder of pinhole images: 3DGS, gsplat, Brush, MVS
  {PROGRAM} export out/ undistorted --max-size 1600    smaller images, cameras to match
  {PROGRAM} export out/sparse/1 ply                    another model of the run; the same: out/ ply --model 1
  {PROGRAM} export colmap/ undistorted --images photos/

docs/splats.md: from a phone to a splat, and which program reads which format.
"""


def _arguments(parser: Parser) -> None:
    registry = exports()
    names = ", ".join(registry.entries())
    formats = [f"  {name:<14}{entry.help}" for name, entry in registry.entries().items()]
    parser.epilog = "\n".join(["formats:", *formats, "", EXAMPLES])
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run or of refine, or a COLMAP model")
    parser.add_argument("format", type=entry_of(registry), metavar="FORMAT", help=names)
    parser.add_argument("dest", type=Path, nargs="?", metavar="DEST", help="folder to write (default: OUT/FORMAT)")
    add_model_number(parser)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")
    parser.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="masks to write with the images (default: those of the run)"
    )
    parser.add_argument(
        "--max-size", type=int, metavar="PX", help="longer side of the images that are written, reduced to it"
    )


def _run(args: Namespace) -> int:
    from sfm.export.registry import export
    from sfm.export.source import ExportSource, default_folder
    from sfm.results.console import print_warnings
    from sfm.results.hints import after_export

    source = ExportSource.of(args.out, args.model, images=args.images, masks=args.masks, max_size=args.max_size)
    dest = args.dest or default_folder(args.out, source, args.format.partition(":")[0])
    print("\n".join([str(export(source, dest, args.format)), *after_export(args.format, dest)]))
    print_warnings(args.out if args.model is None else source.model_dir)
    return 0


VERB = Verb("OUT FORMAT [DEST]", "for nerfstudio, splats, MVS, hloc and others: see its --help", _arguments, _run)
