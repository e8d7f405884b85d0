"""The README's picture: an image of each scene beside its sparse models by SIFT and by LoFTR.

    python -m benchmarks.picture OUT.jpg SCENE SIFT_RUN LOFTR_RUN [SCENE SIFT_RUN LOFTR_RUN ...]

SCENE is a folder with images/, a RUN is what reconstruct.py wrote of it. Both models are seen from one view, as
`loftr-sfm view` draws them. Needs no screen.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sfm.drawing.scene import read_scene
from sfm.viewer.image_files import ImageFiles
from sfm.viewer.state import ViewState, arranged
from sfm.viewer.stills import Drawer, save_picture, screenshot

CELL, GAP = (640, 480), 6


def image_cell(images: list[Path]) -> Image.Image:
    """The middle image, cut to the cell, with how many there are."""
    picture = ImageFiles(images[0].parent)(images[len(images) // 2].name, 1600)
    assert picture is not None, f"{images[0].parent}: no images"
    height, width = picture.shape[:2]
    scale = max(CELL[0] / width, CELL[1] / height)
    cell = Image.fromarray(picture).resize((round(scale * width), round(scale * height)), Image.Resampling.LANCZOS)
    left, top = (cell.width - CELL[0]) // 2, (cell.height - CELL[1]) // 2
    cell = cell.crop((left, top, left + CELL[0], top + CELL[1]))
    ink, text = ImageDraw.Draw(cell), f"one of {len(images)} images"
    font = ImageFont.load_default(20)
    ink.rectangle((0, CELL[1] - 38, 28 + ink.textlength(text, font), CELL[1]), fill=(20, 23, 28))
    ink.text((14, CELL[1] - 30), text, fill=(235, 235, 235), font=font)
    return cell


def row(scene: Path, sift: Path, loftr: Path) -> Image.Image:
    """Image, SIFT's model, LoFTR's model."""
    images = sorted((scene / "images").iterdir())
    titles = {"SIFT": read_scene(sift), "LoFTR": read_scene(loftr)}
    named = [
        replace(model, title=f"{name}: {len(model.cameras.names)} of {len(images)} images")
        for name, model in titles.items()
    ]
    models, note = arranged(named)
    assert note is None, f"{scene}: {note}"
    drawer = Drawer(models, ViewState(axes=False), (ImageFiles(scene / "images"),) * 2)
    picture = Image.new("RGB", (3 * CELL[0] + 2 * GAP, CELL[1]), "white")
    picture.paste(image_cell(images), (0, 0))
    both = screenshot(drawer, "overview", (2 * CELL[0], CELL[1]))
    for k in range(2):
        picture.paste(both.crop((k * CELL[0], 0, (k + 1) * CELL[0], CELL[1])), ((k + 1) * (CELL[0] + GAP), 0))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT.jpg")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="SCENE SIFT_RUN LOFTR_RUN, repeatedly")
    args = parser.parse_args()
    if len(args.folders) % 3:
        parser.error("folders come in threes: SCENE SIFT_RUN LOFTR_RUN")
    rows = [row(*args.folders[k : k + 3]) for k in range(0, len(args.folders), 3)]
    picture = Image.new("RGB", (rows[0].width, len(rows) * (CELL[1] + GAP) - GAP), "white")
    for k, each in enumerate(rows):
        picture.paste(each, (0, k * (CELL[1] + GAP)))
    save_picture(picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS), args.out)


if __name__ == "__main__":
    main()
