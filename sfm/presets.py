"""Options that go together, by name. What a preset says holds unless the option itself is given.

Times, points and AUC: Strecha's fountain-P11, intrinsics unknown, compact weights, `--rotations off`, processor time of
an Intel Xeon at 2.5 GHz, 2026-11-28. With known intrinsics AUC@1 is 0.953 by the defaults and by `best`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

BALANCED = "balanced"


@dataclass(frozen=True, slots=True)
class Preset:
    """help: a line, with what it costs and gives. values: of options, by their names (sfm.options.RunKeywords)."""

    help: str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(
            "smaller images, 10 pairs and 500 observations an image, one round of refinement (11 images: 34 s of one "
            "core, 804 points, AUC@1 0.87)",
            MappingProxyType({"resize": 480, "pairs": "retrieval:10", "max_observations": 500, "rounds": 1}),
        ),
        BALANCED: Preset("the defaults (the same: 65 s, 5,883 points, 0.91)"),
        "best": Preset(
            "larger images, 50 pairs and all observations an image, five rounds at full size: more points, poses as "
            "exact (the same: 109 s, 10,241 points, 0.88)",
            MappingProxyType(
                {"resize": 840, "pairs": "retrieval:50", "max_observations": 0, "rounds": 5, "align_size": 0}
            ),
        ),
    }
)


def preset_values(name: str) -> Mapping[str, Any]:
    """What a preset sets; nothing for a name that is none."""
    return PRESETS[name].values if name in PRESETS else {}
