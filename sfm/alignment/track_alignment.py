"""Every observation of every track, re-estimated against its track's reference by aligning patches.

Tracks are worked on in blocks that fit the memory, those of one reference image after the other's: first the patches of
all references are cut out, image by image, then they are aligned in the other images, image by image. So each image is
decoded at most twice for each block that it has a part in, which are few, and once where all images fit. Alignment goes
from a coarse pyramid level, where the matcher's error is a pixel, to the finest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sfm.alignment.patch_alignment import (
    MAX_SCALE,
    PRIOR_SIGMA,
    WINDOW_RADIUS,
    Alignment,
    Templates,
    Window,
    cut_patches,
    found_in_stages,
)
from sfm.alignment.patch_warps import patch_maps, surface_normals
from sfm.alignment.pyramids import NUM_LEVELS, AlignmentImages, PyramidCache
from sfm.colmap.model_arrays import ModelColumns, rows_of
from sfm.system.memory import is_exhausted
from sfm.system.parallel import map_on_cores, num_cores
from sfm.system.progress import progress_bar
from sfm.types import Float32, Float64, Int64

log = logging.getLogger(__name__)

CHUNK = 1024  # patches aligned at once
MAPPED = 1 << 18  # observations whose maps are found at once
MOST = 1_000_000_000  # bytes for both; of more the largest sets would read few images less often
READY_PATCHES = 0.5  # share of the memory for patches; the rest is for pyramids

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False)
class AlignedTracks:
    """Columns over a model's observations. xy: (O, 2) px of the images, references where they were. correlation: (O,)
    with the reference, 1 for itself, -1 where it could not be compared. information: (O, 2, 2) per px² of the image:
    what the pixels say, without the prior; zero for references."""

    xy: Float64
    correlation: Float64
    information: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Observations to be aligned, as columns (M,) in px of the pyramids. rows, reference: of the model's observations.
    template, target: pyramid level of either side at the finest stage. map: (M, 2, 2) target px per reference px."""

    rows: NDArray[np.int32]
    reference: NDArray[np.int32]
    image: NDArray[np.int32]
    template: NDArray[np.int8]
    target: NDArray[np.int8]
    map: Float32

    @classmethod
    def joined(cls, parts: Sequence[Job]) -> Job:
        """All of their observations."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def take(self, rows: Int64) -> Job:
        """Some of the observations (M,)."""
        return Job(*(getattr(self, name)[rows] for name in self.__slots__))


def align_tracks(
    columns: ModelColumns,
    reference: Int64,
    images: AlignmentImages,
    *,
    from_level: int,
    memory: int,
    device: str = "cpu",
) -> AlignedTracks:
    """Aligns every observation with its point's reference (T,), its row in the columns.

    from_level: pyramid level to begin at, 0 is the finest. memory: bytes for patches and pyramids.
    """
    job = _job(columns, reference, images)
    xy, correlation = columns.xy.copy(), np.full(len(columns.xy), -1.0)
    information = np.zeros((len(columns.xy), 2, 2))
    correlation[reference] = 1.0
    memory = min(memory, MOST)
    pyramids = PyramidCache(images.read, int(memory * (1 - READY_PATCHES)))
    window = Window.of_radius(WINDOW_RADIUS, device)
    with progress_bar(len(job.rows), desc="refining", unit="observation") as bar:
        for own in blocks(job, columns, images, from_level, memory, window):
            for part, found in _Block.of(own, columns, images, pyramids, window, from_level).aligned():
                scale = images.scale[columns.image[part.rows]]
                xy[part.rows] = found.xy.cpu().numpy() / scale
                correlation[part.rows] = found.correlation.cpu().numpy()
                information[part.rows] = found.information.cpu().numpy() * scale[:, :, None] * scale[:, None, :]
                bar.update(len(part.rows))
    return AlignedTracks(xy, correlation, information)


def _job(columns: ModelColumns, reference: Int64, images: AlignmentImages) -> Job:
    """Every observation but the references, where a map from the reference exists, in the order of the references'
    images: what is aligned together is seen in few images."""
    normals = surface_normals(columns, reference)
    rows = np.flatnonzero(reference[columns.point] != np.arange(len(columns.point)))
    starts = range(0, max(1, len(rows)), MAPPED)  # one part at least
    job = Job.joined([_part(columns, rows[i : i + MAPPED], reference, normals, images) for i in starts])
    return job.take(np.lexsort((job.template, job.reference, columns.image[job.reference])))


def _part(columns: ModelColumns, rows: Int64, reference: Int64, normals: Float64, images: AlignmentImages) -> Job:
    """Those of some observations that are in the job."""
    own_reference = reference[columns.point[rows]]
    source, target = images.scale[columns.image[own_reference]], images.scale[columns.image[rows]]
    maps = patch_maps(columns, rows, reference, normals) * target[:, :, None] / source[:, None, :]
    determinant = np.abs(np.linalg.det(maps))
    with np.errstate(invalid="ignore"):
        usable = (determinant > MAX_SCALE**-2) & (determinant < MAX_SCALE**2)  # False for NaN
    octave = np.round(np.log2(determinant[usable]) / 2).astype(np.int8)  # target px per reference px
    return Job(
        rows[usable].astype(np.int32),
        own_reference[usable].astype(np.int32),
        columns.image[rows[usable]].astype(np.int32),
        np.maximum(-octave, 0),
        np.maximum(octave, 0),
        maps[usable].astype(np.float32),
    )


def blocks(
    job: Job, columns: ModelColumns, images: AlignmentImages, from_level: int, memory: int, window: Window
) -> Iterator[Job]:
    """The job in parts, by whole points, whose reference patches fit the memory, and whose images' pyramids do where
    fewer images are read so.

    memory: bytes, of which READY_PATCHES is for patches. Sums of a part depend in the last bit on what else is in it.
    So that this does not depend on what happens to be free, sizes are powers of two.
    """
    if not len(job.rows):
        return
    room = _round(int(memory * READY_PATCHES) // ((from_level + 1) * window.side**2 * 4))  # templates: a patch a level
    is_first = np.diff(job.reference, prepend=-1) != 0
    templates = np.cumsum(is_first | (np.diff(job.template, prepend=-1) != 0))
    points = np.append(np.flatnonzero(is_first), len(job.rows))
    image_room = _round(int(memory * (1 - READY_PATCHES)) // _pyramid_bytes(columns, images))
    num_by_patches = -(-int(templates[-1]) // room)
    ends = ends_by_images(job, columns, image_room, most_reads=2 * len(columns.names) * num_by_patches)
    start = 0
    while start < len(job.rows):
        before = templates[start - 1] if start else 0
        fitting = min(int(np.searchsorted(templates, before + room, side="right")), _next_end(ends, start))
        end = int(points[np.searchsorted(points, fitting, side="right") - 1])
        if end <= start:  # a point that does not fit
            end = int(points[np.searchsorted(points, start, side="right")])
        yield job.take(np.arange(start, end))
        start = end


def _round(room: int) -> int:
    """The largest power of two up to `room`, at least 1."""
    return 1 << (max(1, room).bit_length() - 1)


def _next_end(ends: Int64, start: int) -> int:
    return int(ends[np.searchsorted(ends, start, side="right")])


def _pyramid_bytes(columns: ModelColumns, images: AlignmentImages) -> int:
    """Of the mean image: levels of 1, 1/4, 1/16, ... of its pixels."""
    sizes = np.array([(camera.width, camera.height) for camera in columns.cameras]) * images.scale
    return max(1, int(4 * np.prod(sizes, axis=1).mean() * 4 / 3))


def ends_by_images(job: Job, columns: ModelColumns, room: int, *, most_reads: int) -> Int64:
    """Where parts of the job end, by whole reference images, whose references and observations are in `room` images.

    Nowhere but at its end where more images would be read for them than most_reads, which is what parts by patches
    read: each image twice for each, first for its references, then for its observations. Where images share points
    with more others than fit, as of a walk around one thing, every part would read them all.
    """
    source = columns.image[job.reference]
    num = len(columns.names)
    pairs = np.unique(source * num + job.image)
    seen_from = np.split(pairs % num, np.flatnonzero(np.diff(pairs // num)) + 1)
    starts, ends, reads = np.flatnonzero(np.diff(source, prepend=-1)), [], 0
    held = np.zeros(num, bool)
    for start, others in zip(starts, seen_from, strict=True):
        own = np.zeros(num, bool)
        own[others] = own[source[start]] = True
        fits = np.count_nonzero(own) <= room
        reads += int(np.count_nonzero(own & ~held) if fits else 2 * np.count_nonzero(own))
        if held.any() and np.count_nonzero(held | own) > room:
            ends.append(int(start))
            held = own
        else:
            held = held | own
    return np.array([*ends, len(job.rows)] if reads <= most_reads else [len(job.rows)])


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Observations that are aligned together. positions: (O, 2) pyramid px, of all observations of the model. patches:
    of each stage, coarse to fine, those of the references, and which of them (M,) each observation has."""

    job: Job
    positions: Float32
    images: AlignmentImages
    pyramids: PyramidCache
    window: Window
    patches: tuple[tuple[torch.Tensor, Int64], ...]

    @classmethod
    def of(
        cls,
        job: Job,
        columns: ModelColumns,
        images: AlignmentImages,
        pyramids: PyramidCache,
        window: Window,
        from_level: int,
    ) -> _Block:
        """The block of a job, with the patches of its references cut out."""
        positions = (columns.xy * images.scale[columns.image]).astype(np.float32)
        patches = tuple(
            reference_patches(job, stage, positions, columns, pyramids, window) for stage in range(from_level, -1, -1)
        )
        return cls(job, positions, images, pyramids, window, patches)

    def aligned(self) -> Iterator[tuple[Job, Alignment]]:
        """The alignment of each part of the block, one image a part."""
        cores = num_cores() if self.window.x.device.type == "cpu" else 0
        yield from chain.from_iterable(map_on_cores(partial(_in_halves, self._align), self._parts(), cores=cores))

    def _parts(self) -> list[Int64]:
        """Rows of the job, at most CHUNK of one image a part."""
        order = np.lexsort((self.job.reference, self.job.image))
        bounds = np.flatnonzero(np.diff(self.job.image[order], prepend=-1, append=-1))
        return [
            rows[start : start + CHUNK]
            for rows in (order[a:b] for a, b in pairwise(bounds))
            for start in range(0, len(rows), CHUNK)
        ]

    @torch.inference_mode()
    def _align(self, rows: Int64) -> tuple[Job, Alignment]:
        """Some rows of the job, of one image, aligned from the coarsest stage to the finest."""
        part, device = self.job.take(rows), self.window.x.device
        image = int(part.image[0])
        xy = torch.from_numpy(self.positions[part.rows]).to(device)
        maps = torch.from_numpy(part.map).to(device)
        template, target = (torch.from_numpy(level).to(device) for level in (part.template, part.target))
        return part, found_in_stages(
            self.pyramids(image),
            (Templates.of(patches[torch.from_numpy(of[rows])].to(device), self.window) for patches, of in self.patches),
            self.window,
            start=Alignment(xy, maps, torch.zeros(len(rows), device=device), maps),
            levels=[(template + stage, target + stage) for stage in range(len(self.patches) - 1, -1, -1)],
            prior_sigma=PRIOR_SIGMA * float(self.images.unit[image]),
        )


def _in_halves(work: Callable[[Int64], _Result], rows: Int64) -> list[_Result]:
    """The work of some rows, in halves where memory does not suffice. No closure: one that calls itself would hold
    patches and images until the garbage collector comes."""
    try:
        return [work(rows)]
    except Exception as error:
        if len(rows) < 2 or not is_exhausted(error):
            raise
    half = len(rows) // 2
    log.warning("out of memory: aligning %d patches at once", half)
    return _in_halves(work, rows[:half]) + _in_halves(work, rows[half:])


def reference_patches(
    job: Job, stage: int, positions: Float32, columns: ModelColumns, pyramids: PyramidCache, window: Window
) -> tuple[torch.Tensor, Int64]:
    """Patches (U, side, side) that a stage's templates are made of, and which of them (M,) each observation has."""
    level = np.minimum(job.template + stage, NUM_LEVELS - 1)
    keys, patch_of = np.unique(job.reference * NUM_LEVELS + level, return_inverse=True)
    reference, level = keys // NUM_LEVELS, keys % NUM_LEVELS
    patches = torch.empty(len(keys), window.side, window.side)
    device = window.x.device
    for image, rows in enumerate(rows_of(columns.image[reference], len(columns.names))):
        if not len(rows):
            continue
        xy = torch.from_numpy(positions[reference[rows]]).to(device)
        cut = cut_patches(pyramids(image), xy, torch.from_numpy(level[rows]).to(device), window)
        patches[torch.from_numpy(rows)] = cut.cpu()
    return patches, patch_of.ravel()
