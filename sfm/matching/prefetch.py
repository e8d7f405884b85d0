"""Images decoded in a thread while the matcher works on those before."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path

from sfm.images.decoding import read_grey, read_mask
from sfm.images.index import check_unchanged
from sfm.matchers.base import GreyImage, Mask
from sfm.system.parallel import Workers
from sfm.types import ImageRecord

_DECODED_AHEAD, _DECODED_AHEAD_PX = 4, 100_000_000  # images, and of large ones fewer


class ImageReader(AbstractContextManager["ImageReader"]):
    """Images and their masks, the next ones decoded in a thread while the matcher works."""

    def __init__(self, folder: Path, records: Mapping[str, ImageRecord], masks: Path | None) -> None:
        self._folder = folder
        self._records = records
        self._masks = masks
        self._thread = Workers(1)
        self._ahead: dict[str, Future[tuple[GreyImage, Mask | None]]] = {}

    def __exit__(self, kind: object, *_: object) -> None:
        self._thread.shutdown(wait=kind is None, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """Another image may be announced."""
        px = sum(self._records[name].width * self._records[name].height for name in self._ahead)
        return len(self._ahead) < _DECODED_AHEAD and px < _DECODED_AHEAD_PX

    def announce(self, name: str) -> None:
        """Starts to decode an image that will be taken soon."""
        if name not in self._ahead:
            self._ahead[name] = self._thread.submit(self.read, name)

    def take(self, name: str) -> tuple[GreyImage, Mask | None]:
        """The image and its mask, if it has one. Raises BadImage."""
        future = self._ahead.pop(name, None)
        return future.result() if future is not None else self.read(name)

    def read(self, name: str) -> tuple[GreyImage, Mask | None]:
        """The image and its mask, decoded here and now. Raises BadImage."""
        record = self._records[name]
        mask = read_mask(self._masks, record) if self._masks is not None else None
        image = read_grey(self._folder, record)
        check_unchanged(self._folder, record, self._masks)
        return image, mask
