"""Files of the same bytes as an image, in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sfm.storage.schema import Row
from sfm.system.safe_paths import leads_out


def copies_columns(copies: Mapping[str, str], rows: Mapping[str, int]) -> dict[str, Any]:
    """Columns of `copies`: the images' names by those of files that are copies of them."""
    return {"name": list(copies), "image_idx": np.array([rows[of] for of in copies.values()], np.uint32)}


def copies(c: Row, names: Sequence[str]) -> dict[str, str]:
    """The images' names by those of files that are copies of them. ValueError for a name that no such file can have."""
    own = [str(name) for name in c["name"]]
    if len({*own, *names}) < len(own) + len(names):
        raise ValueError("copies: names that are not unique")
    if outside := [name for name in own if leads_out(name)]:
        raise ValueError(f"copies: {outside[0]!r} leads out of the folder of images")
    return {name: names[i] for name, i in zip(own, c["image_idx"].tolist(), strict=True)}
