"""What was probably meant by a word that is unknown."""

from __future__ import annotations

from sfm.wording import did_you_mean as did_you_mean
from sfm.wording import nearest as nearest
