"""Images with bytes changed at random: skipped with a reason of one line, or read as what they were taken for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.errors import BadImage
from sfm.images.camera_priors import cameras_of
from sfm.images.decoding import read_grey, read_rgb, read_thumbnail
from sfm.images.index import check_image
from sfm.options import ImageOptions
from sfm.types import ImageRecord
from tests.support import odd_images
from tests.support.odd_images import USED

KINDS = [kind for kind in USED if not kind.what.startswith("name") and kind.what != "20,000x20"]
NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0")
MUTANTS = 12  # of each kind


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """One to five places changed, most of them near the beginning, where sizes and offsets are."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(min(len(out), 400 if rng.random() < 0.7 else len(out))))
        match rng.integers(4):
            case 0:
                out[at] = rng.integers(256)
            case 1:
                out[at : at + 4] = NUMBERS[rng.integers(len(NUMBERS))]
            case 2:
                del out[at : at + int(rng.integers(1, 20))]
            case _:
                out[at:at] = rng.bytes(int(rng.integers(1, 20)))
    return bytes(out)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_mutants(tmp_path: Path, kind) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((64, 48)))
    data = (tmp_path / odd_images.write(tmp_path, kind, picture)).read_bytes()[:20_000]
    rng, path = np.random.default_rng(KINDS.index(kind)), tmp_path / "mutant.jpg"
    for _ in range(MUTANTS):
        path.write_bytes(mutant(data, rng))
        reason = ""
        try:
            image, digest = check_image(path)
        except BadImage as error:
            reason = str(error).removeprefix(f"{path}: ")
        assert "\n" not in reason
        assert len(reason) < 200
        if reason:
            continue
        camera = cameras_of([image], ImageOptions())[image.name]
        width, height = image.size
        if width * height < 5_000_000:
            record = ImageRecord(image.name, width, height, camera, digest)
            assert read_grey(Path(), record).shape == (height, width)
            assert read_rgb(Path(), record).shape == (height, width, 3)
            assert max(read_thumbnail(Path(), image.name, image.size, 32).size) <= 32
