"""The local descriptors of a set of images, kept in a file of the output folder, so that more images are cheap."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadFile, BadImage
from sfm.images.decoding import read_grey, read_mask
from sfm.pairs.base import ImageSet
from sfm.system.hashing import json_digest
from sfm.system.progress import progress_bar
from sfm.system.untrusted_files import read_arrays
from sfm.types import ImageRecord

log = logging.getLogger(__name__)

REVISION = 1  # raised when the descriptors change
_AT_ONCE = 16  # images
Descriptors = NDArray[np.float16]  # (T, C)


def descriptors_of(images: ImageSet, records: Sequence[ImageRecord] | None = None) -> dict[str, Descriptors]:
    """(T, 96) f16 of each image by name, T being 0 where an image cannot be read. records: of the images that are
    meant, None for all. Those that the cache has are not computed again; the cache then holds them all."""
    from sfm.matchers.local_descriptors import WIDTH, LocalDescriptors  # torch is loaded only where it is needed

    network = LocalDescriptors()
    key = json_digest([REVISION, network.provenance])
    wanted = list(images.records if records is None else records)
    held = _read(images.cache, key, WIDTH)
    missing = [record for record in wanted if record.digest not in held]
    with progress_bar(len(missing), desc="describing images", unit="image") as bar:
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            readable = [(record, *pixels) for record in part if (pixels := _pixels(images, record)) is not None]
            found = network.of([image for _, image, _ in readable], [mask for *_, mask in readable])
            held |= {record.digest: own for (record, *_), own in zip(readable, found, strict=True)}
            bar.update(len(part))
    if missing and images.cache is not None:
        _write(images.cache, key, {r.digest: held[r.digest] for r in images.records if r.digest in held})
    return {record.name: held.get(record.digest, np.zeros((0, WIDTH), np.float16)) for record in wanted}


def _pixels(images: ImageSet, record: ImageRecord) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None:
    try:
        return read_grey(images.folder, record), read_mask(images.masks, record) if images.masks is not None else None
    except BadImage:  # matching says so, and leaves it out
        return None


def _read(path: Path | None, key: str, width: int) -> dict[str, Descriptors]:
    """Descriptors by the digest of the image; empty where there is no cache, or it is of another kind or damaged."""
    if path is None or not path.is_file():
        return {}
    try:
        arrays = read_arrays(path)
        digests, offsets, values = arrays["digests"], arrays["offsets"], arrays["values"]
        if str(arrays["key"]) != key or values.dtype != np.float16 or values.shape[1:] != (width,):
            return {}
        steps = np.diff(offsets)
        fits = len(steps) == len(digests) and offsets[0] == 0 and offsets[-1] == len(values) and (steps >= 0).all()
        if not fits or not np.isfinite(values).all():
            return {}
        parts = zip(digests.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        return {str(digest): values[start:stop] for digest, start, stop in parts}
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, BadZipFile) as error:
        log.debug("%s: %s", path, error)
        return {}


def _write(path: Path, key: str, held: Mapping[str, Descriptors]) -> None:
    """The file appears whole. Raises BadFile where it cannot be written."""
    part = path.with_name(path.name + ".part")
    counts = [len(own) for own in held.values()]
    try:
        part.unlink(missing_ok=True)
        with part.open("wb") as file:
            np.savez(
                file,
                key=np.array(key),
                digests=np.array(list(held), dtype=np.str_),
                offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
                values=np.concatenate(list(held.values())) if held else np.zeros((0, 1), np.float16),
            )
        part.replace(path)
    except OSError as error:
        raise BadFile(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from None
