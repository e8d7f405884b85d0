"""Where the checkout, its demo scene and the shared datasets are."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "datasets" / "courtyard" / "demo"  # images/ and gt/
SHARED = Path(os.environ.get("LOFTR_SFM_SHARED", ROOT.parent / "shared"))  # may be absent
