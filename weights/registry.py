"""The weights that are known by name: where they come from, how to check them, which network they fit.

The configuration is bound here because a checkpoint does not hold it: the position encoding's
formula is not in a state dict, and a wrong one loads without an error and only degrades matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfm.errors import BadFile
from sfm.wording import did_you_mean

_KORNIA = "https://huggingface.co/kornia/loftr/resolve/main/"
_ZJU = "https://huggingface.co/zju-community/"  # the authors' group
_MINIMA = "https://github.com/LSXI7/storage/releases/download/MINIMA/"  # the authors'
_CMP = "http://cmp.felk.cvut.cz/~mishkdmy/models/"  # plain HTTP: the checksum decides


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of weights.

    purpose: what it is for. urls: addresses in the order they are tried, none where the file ships
    with the package. size: bytes, sha256: hex; None where not published. config: key of
    sfm.matchers.loftr.config.CONFIGS. file_names: the first is ours, the others are taken too.
    matcher: whose network it is, a key of MATCHERS in sfm.matchers.registry.
    """

    name: str
    purpose: str
    config: str
    file_names: tuple[str, ...]
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    licence: str = "Apache-2.0"
    matcher: str = "loftr"

    @property
    def embedded(self) -> Path | None:
        """The file inside the package; None for weights that are downloaded."""
        return None if self.urls else Path(__file__).parent / self.file_names[0]


REGISTRY: dict[str, Weights] = {
    "outdoor": Weights(
        name="outdoor",
        purpose="LoFTR as published, trained on MegaDepth: the most accurate, wants a GPU",
        config="outdoor",
        file_names=("loftr_outdoor.ckpt", "outdoor_ds.ckpt"),
        urls=(_KORNIA + "loftr_outdoor.ckpt", _CMP + "loftr_outdoor.ckpt"),
        size=46_341_978,
        sha256="21f5bec5968178e8bc8b7633441836fe5de4f47d861dd2cd7dc38e271b0479ec",
    ),
    "indoor": Weights(
        name="indoor",
        purpose="LoFTR as published, trained on ScanNet (about 46 MB; no checksum is published)",
        config="indoor",
        file_names=("loftr_indoor.ckpt", "indoor_ds.ckpt"),
        urls=(_KORNIA + "loftr_indoor.ckpt", _CMP + "loftr_indoor.ckpt"),
    ),
    "indoor_new": Weights(
        name="indoor_new",
        purpose="LoFTR trained on ScanNet with the corrected position encoding",
        config="indoor_new",
        file_names=("loftr_indoor_ds_new.ckpt", "indoor_ds_new.ckpt"),
        urls=(_KORNIA + "loftr_indoor_ds_new.ckpt", _CMP + "loftr_indoor_ds_new.ckpt"),
        size=48_653_926,
        sha256="be9ff88b323ec27889114719f668ae41aff7034b56a4c4acbd46b8b180b87ed3",
    ),
    "minima": Weights(
        name="minima",
        purpose="LoFTR trained further on images of other kinds (thermal, depth, night); no checksum is published",
        config="minima",
        file_names=("minima_loftr.ckpt",),
        urls=(_MINIMA + "minima_loftr.ckpt", "https://huggingface.co/lsxi77777/MINIMA/resolve/main/minima_loftr.ckpt"),
    ),
    "compact": Weights(
        name="compact",
        purpose="our own small LoFTR, shipped with the package: for the CPU and without a network",
        config="compact",
        file_names=("loftr_compact.safetensors",),
        size=4_244_680,
        sha256="e59ba8ec76730e410e04e9ef786e1d8dce1fb09005c4b80a051c601785a554b5",
    ),
    "compact-wide": Weights(
        name="compact-wide",
        purpose="our own, shipped as well: for rooms, wide baselines and images rotated by any angle",
        config="compact-wide",
        file_names=("loftr_compact_wide.safetensors",),
        size=8_076_864,
        sha256="d0745d7bd378321dd00f9f98189cf6d58903062cbffc31d0b28c1c581140ce8f",
    ),
    "eloftr-outdoor": Weights(
        name="eloftr-outdoor",
        purpose="EfficientLoFTR (--matcher efficient-loftr), trained on MegaDepth; no checksum is published",
        config="efficient-loftr",
        file_names=("eloftr_outdoor.safetensors", "eloftr_outdoor.ckpt"),
        urls=(_ZJU + "efficientloftr/resolve/main/model.safetensors",),
        matcher="efficient-loftr",
    ),
}


def check_name(name: str, matcher: str = "loftr") -> None:
    """BadFile unless weights of this matcher are of this name, or in a file of this path; nothing is loaded."""
    known = ("auto", *(key for key, weights in REGISTRY.items() if weights.matcher == matcher))
    if name in REGISTRY and name not in known:
        raise BadFile(f"{name}: weights of another network; give --matcher {REGISTRY[name].matcher} as well")
    if name not in known and not Path(name).is_file():
        meant = did_you_mean(name, known)
        raise BadFile(f"{name}: no such weights; give {', '.join(known)}, or the path of a checkpoint file{meant}")


def by_checksum(sha256: str) -> Weights | None:
    """The known weights whose file has this hex SHA-256, None if there are none."""
    return next((w for w in REGISTRY.values() if w.sha256 == sha256), None)
