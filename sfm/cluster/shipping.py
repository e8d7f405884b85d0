"""What goes over the network: image files to workers, matches back.

An image goes as its file, as it is, or decoded to grey where that is less: RAW and deep images mostly. Nodes need no
file system in common with the driver, and decode as the driver would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadImage
from sfm.images.decoding import mask_path, read_grey, read_mask_file
from sfm.images.files import suffixes
from sfm.images.index import check_unchanged
from sfm.matchers.base import GreyImage, Mask
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.types import ImageRecord, Matches

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ShippedImage:
    """An image for a worker. file: the bytes of its file, or None. grey: (H, W) u8, where there is no file. mask: the
    bytes of its mask's file, or None. fault: why the driver cannot read it; then there is neither. folder: the
    driver's, for messages."""

    record: ImageRecord
    folder: str
    file: Bytes | None = None
    grey: GreyImage | None = None
    mask: Bytes | None = None
    mask_name: str = ""
    fault: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes that are moved."""
        return sum(part.nbytes for part in (self.file, self.grey, self.mask) if part is not None)


def ship(folder: Path, record: ImageRecord, masks: Path | None) -> ShippedImage:
    """The image and its mask as they go to a worker; with a fault where a file is not what was indexed, or gone."""
    path, mask = folder / record.name, None if masks is None else mask_path(masks, record.name)
    try:
        check_unchanged(folder, record, masks)
        masked = None if mask is None else _bytes_of(mask)
        named = "" if mask is None else str(mask)
        raw = path.suffix.lower() in suffixes.RAW  # which nodes may not be able to read
        if raw or path.stat().st_size > record.width * record.height:
            return ShippedImage(record, str(folder), grey=read_grey(folder, record), mask=masked, mask_name=named)
        return ShippedImage(record, str(folder), file=_bytes_of(path), mask=masked, mask_name=named)
    except (BadImage, OSError) as error:
        return ShippedImage(record, str(folder), fault=_fault(folder, record, masks) or str(error))


def _fault(folder: Path, record: ImageRecord, masks: Path | None) -> str:
    """What a run without a cluster says of an image that it cannot read."""
    with ImageReader(folder, {record.name: record}, masks) as reader:
        try:
            reader.read(record.name)
        except BadImage as error:
            return str(error)
    return ""


def _bytes_of(path: Path) -> Bytes:
    return np.fromfile(path, np.uint8)


class ShippedReader(ImageReader):
    """Reads images that were shipped, the next ones decoded in a thread as ImageReader does. A context manager."""

    def __init__(self, images: Sequence[ShippedImage]) -> None:
        self._images: Mapping[str, ShippedImage] = {image.record.name: image for image in images}
        self._scratch = TemporaryDirectory(prefix="loftr-sfm-")
        super().__init__(Path(self._scratch.name), {name: each.record for name, each in self._images.items()}, None)

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._scratch.cleanup()

    def read(self, name: str) -> tuple[GreyImage, Mask | None]:
        """The image and its mask. Raises BadImage with the message that the driver would give."""
        image = self._images[name]
        if image.fault:
            raise BadImage(image.fault)
        mask = None if image.mask is None else self._mask(image, image.mask)
        if image.grey is not None:
            return image.grey, mask
        assert image.file is not None
        path = Path(self._scratch.name, name)
        self._write(path, image.file)
        try:
            return read_grey(Path(self._scratch.name), image.record), mask
        except BadImage as error:
            raise BadImage(str(error).replace(str(path), str(Path(image.folder, name)))) from None
        finally:
            path.unlink(missing_ok=True)

    def _mask(self, image: ShippedImage, data: Bytes) -> Mask:
        record = image.record
        path = Path(self._scratch.name, f"{record.name}.mask")
        self._write(path, data)
        try:
            return read_mask_file(path, record.name, (record.width, record.height))
        except BadImage as error:
            raise BadImage(str(error).replace(str(path), image.mask_name)) from None
        finally:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, data: Bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data.tofile(path)


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatches:
    """Matches of many pairs as columns: quicker to move than an object for each. offsets: (P + 1,) rows of each pair.
    points: (R, 4) f32 px, x0, y0, x1, y1. confidence: (R,) f32. cells: (R, 2) i32."""

    tasks: tuple[RotatedPair, ...]
    offsets: NDArray[np.int64]
    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    cells: NDArray[np.int32]

    @classmethod
    def of(cls, results: Sequence[tuple[RotatedPair, Matches]]) -> PackedMatches:
        """The columns of some results; ValueError for a cell number beyond 31 bits."""
        found = [matches for _, matches in results]
        empty = Matches.empty()
        cells = np.concatenate([np.stack([m.cells0, m.cells1], axis=1) for m in (empty, *found)])
        if cells.size and cells.max() > np.iinfo(np.int32).max:
            raise ValueError("Matches.cells: beyond 31 bits")
        return cls(
            tuple(task for task, _ in results),
            np.cumsum([0, *map(len, found)]),
            np.concatenate([np.concatenate([m.points0, m.points1], axis=1) for m in (empty, *found)]),
            np.concatenate([m.confidence for m in (empty, *found)]),
            cells.astype(np.int32),
        )

    def unpacked(self) -> list[tuple[RotatedPair, Matches]]:
        """The results, in their order."""
        results = []
        for task, begin, end in zip(self.tasks, self.offsets[:-1], self.offsets[1:], strict=True):
            points, cells = self.points[begin:end], self.cells[begin:end].astype(np.int64)
            confidence = self.confidence[begin:end]
            results.append((task, Matches(points[:, :2], points[:, 2:], confidence, cells[:, 0], cells[:, 1])))
        return results

    @property
    def nbytes(self) -> int:
        """Bytes that are moved."""
        return sum(part.nbytes for part in (self.offsets, self.points, self.confidence, self.cells))
