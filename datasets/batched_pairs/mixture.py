"""Pairs of all kinds, made together: so many of each in every batch, harder as the run goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.flat_pairs import flat_pairs
from sfm.datasets.batched_pairs.photometric import changed
from sfm.datasets.batched_pairs.rgbd_pairs import RgbdFrames, rgbd_pairs
from sfm.datasets.batched_pairs.scenes.rendering import Kernels
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws, Textures
from sfm.datasets.batched_pairs.scenes.scene_views import PAIRS, rendered_pairs
from sfm.datasets.batched_pairs.textures import TextureBank
from sfm.datasets.batched_pairs.track_pairs import SharedTracks, track_pairs

FLAT = 0.006  # standard deviation of grey values about a cell, below which it shows nothing
LOOK = 41  # px across of what is about a cell


def without_flat(batch: PairBatch) -> PairBatch:
    """The same, with nothing asked or known of cells about which an image shows nothing at all."""
    seen0, seen1 = _varied(batch.image0), _varied(batch.image1)
    return replace(
        batch,
        warp01=torch.where(seen0[..., None], batch.warp01, torch.nan),
        warp10=torch.where(seen1[..., None], batch.warp10, torch.nan),
        known0=batch.known0 & seen0,
        known1=batch.known1 & seen1,
    )


def _varied(image: Tensor) -> Tensor:
    """(B, 1, H, W) → (B, H / 8, W / 8) bool."""
    padded = F.pad(image, (LOOK // 2,) * 4, mode="replicate")
    mean = F.avg_pool2d(padded, LOOK, stride=8)
    square = F.avg_pool2d(padded**2, LOOK, stride=8)
    return ((square - mean**2) > FLAT**2)[:, 0, : image.shape[2] // 8, : image.shape[3] // 8]


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of each kind are made at once: pairs of frames with depth; scenes that are rooms, objects, house fronts,
    of which each gives len(PAIRS) pairs; pairs of flat photos and of tracks. The defaults make 64 pairs; in these
    proportions the weights compact-wide were trained."""

    frames: int = 18
    rooms: int = 3
    objects: int = 1
    fronts: int = 1
    flat: int = 8
    tracks: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """All that pairs are made from. frames, tracks: None where there are none."""

    bank: TextureBank
    textures: Textures
    kernels: Kernels
    frames: RgbdFrames | None = None
    tracks: SharedTracks | None = None

    def shares(self, draws: Draws, num: int) -> Shares:
        """Drawn for `num` pairs or a few more, in the proportions of the defaults; the part of kinds without a source
        goes to the others, and scenes, which are always there, are whole."""
        usual = Shares()
        photos = (
            usual.frames * (self.frames is not None),
            usual.flat * bool(self.textures.num_photos),
            usual.tracks * (self.tracks is not None),
        )
        scenes = (usual.rooms, usual.objects, usual.fronts)
        wanted = num * sum(scenes) / (len(PAIRS) * sum(scenes) + sum(photos))
        num_scenes = int(wanted + draws.uniform(1).item())  # rounded up as often as its fraction says
        if not any(photos):
            num_scenes = -(-num // len(PAIRS))
        rooms, objects, fronts = _drawn(draws, scenes, num_scenes)
        frames, flat, tracks = _drawn(draws, photos, max(0, num - len(PAIRS) * num_scenes))
        return Shares(frames, rooms, objects, fronts, flat, tracks)

    def batch(
        self,
        draws: Draws,
        shares: Shares,
        size: tuple[int, int],
        difficulty: Difficulty,
        *,
        samples: int = 2,
        mirrors: bool = True,
    ) -> PairBatch:
        """A batch of pairs of images of size (H, W) px, multiples of 32, in all kinds of light."""
        bank, parts = self.bank, []
        rendered = (shares.rooms, shares.objects, shares.fronts)
        if sum(rendered):
            parts.append(
                rendered_pairs(
                    draws,
                    bank,
                    self.textures,
                    self.kernels,
                    rendered,
                    size,
                    difficulty,
                    samples=samples,
                    mirrors=mirrors,
                )
            )
        if self.frames is not None and shares.frames:
            parts.append(rgbd_pairs(draws, bank, self.frames, shares.frames, size, difficulty))
        if shares.flat:
            parts.append(flat_pairs(draws, bank, self.textures.num_photos, shares.flat, size, difficulty))
        if self.tracks is not None and shares.tracks:
            parts.append(track_pairs(draws, bank, self.tracks, shares.tracks, size, difficulty))
        joined = without_flat(PairBatch.joined(parts))
        images = changed(draws, torch.cat([joined.image0, joined.image1]))
        image0, image1 = images.chunk(2)
        return replace(joined, image0=image0, image1=image1)


def _drawn(draws: Draws, weights: tuple[int, ...], num: int) -> list[int]:
    """How many of each kind `num` draws by weight give."""
    if not num:
        return [0] * len(weights)
    weight = torch.tensor(weights, dtype=torch.float32, device=draws.device)
    kinds = torch.multinomial(weight, num, replacement=True, generator=draws.generator)
    return [int(count) for count in torch.bincount(kinds, minlength=len(weights))]
