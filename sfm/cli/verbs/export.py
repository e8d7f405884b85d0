"""export OUT FORMAT: a run's results for other programs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sfm.cli.parsing import PROGRAM, Parser, Verb, entry_of
from sfm.cli.registries import exports
from sfm.errors import BadFile

EXAMPLES = f"""\
examples:
  {PROGRAM} export out/ nerfstudio                 then: ns-train splatfacto --data out/nerfstudio
  {PROGRAM} export out/ undistorted splat/         COLMAP folder of pinhole images
  {PROGRAM} export out/ ply --images moved/images
"""


def _arguments(parser: Parser) -> None:
    registry = exports()
    names = ", ".join(registry.entries())
    formats = [f"  {name:<14}{entry.help}" for name, entry in registry.entries().items()]
    parser.epilog = "\n".join(["formats:", *formats, "", EXAMPLES])
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT of a run")
    parser.add_argument("format", type=entry_of(registry), metavar="FORMAT", help=names)
    parser.add_argument("dest", type=Path, nargs="?", metavar="DEST", help="folder to write (default: OUT/FORMAT)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the images, where they have moved since")


def _run(args: Namespace) -> int:
    from sfm.export.registry import export
    from sfm.export.source import ExportSource
    from sfm.results.console import print_warnings
    from sfm.system.safe_paths import refuse_links

    folder = args.format.partition(":")[0]
    if not args.out.is_dir():
        raise BadFile(f"{args.out}: no such folder; give the output folder of a run")
    if args.dest is None:
        refuse_links(args.out, [folder])
    print(export(ExportSource.of_run(args.out, args.images), args.dest or args.out / folder, args.format))
    print_warnings(args.out)
    return 0


VERB = Verb("OUT FORMAT [DEST]", "for nerfstudio, splats, MVS, hloc and others: see its --help", _arguments, _run)
