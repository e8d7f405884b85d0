"""Which frames of a video are kept: some that moved far enough since the last one, of each span the sharpest.

Frames come one after another and only the best one of the present span has to be kept in memory. What is decided
depends on the last kept frame and what came after it, so that a run that was killed carries on and decides the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sfm.errors import BadOption

NEAR, FAR = 0.05, 0.09  # of the longer side: how far the next kept frame has moved since the last one
NEAR_EQUAL = 0.004  # of the longer side; frames that moved less are the same view, whatever the rule
BLURRED = 0.6  # of the sharpness of the frames around: a frame that is less sharp is blurred
SHARP_RANK = 80  # percentile of the frames around that counts as sharp
AROUND = 31  # frames before a frame that its sharpness is compared with
SPAN = 30  # frames, the longest that a sharper one is waited for
FIRST_SPAN = 8  # frames, of which the first one is chosen
FINER = 4.0  # times as many frames as asked for are kept at first, of which the best ones are chosen at the end
MANY = 8  # times as many as asked for: from there on they are chosen twice as far apart
MAX_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class FrameRule:
    """--frames: by motion (neither), `count` frames in all, or the best of every 1 / `per_second` s."""

    count: int | None = None
    per_second: float | None = None

    @classmethod
    def of(cls, text: str | None) -> FrameRule:
        """The rule of "200", "2fps" or None. Raises BadOption."""
        if text is None:
            return cls()
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(fps)?\s*", text, re.IGNORECASE)
        number = float(found[1]) if found else 0.0
        if found and found[2] and 0 < number <= 1000:
            return cls(per_second=number)
        if found and not found[2] and number == int(number) and 2 <= number <= MAX_KEPT:
            return cls(count=int(number))
        raise BadOption(f"--frames {text}: give a number of frames of each video (200) or how many a second (2fps)")


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame as far as it matters here. shift: motion since the last kept frame (Motion.shift)."""

    index: int
    time_s: float
    sharpness: float
    shift: float


@dataclass(slots=True)
class Counts:
    """Why frames were not kept."""

    little: int = 0
    blurred: int = 0


@dataclass(slots=True)
class Chooser:
    """Decides on one frame after another.

    recent: sharpness of the last frames. num_kept: so far. first_time_s: of the first frame.
    The best frame of the present span is `held`; the caller
    keeps its pixels, and writes them when told so.
    """

    rule: FrameRule
    recent: list[float] = field(default_factory=list)
    num_kept: int = 0
    counts: Counts = field(default_factory=Counts)
    first_time_s: float | None = None
    held: Seen | None = None
    _num_waited: int = 0
    _num_lost: int = 0  # frames in a row that were too blurred to say where they went
    _rest: list[Seen] = field(default_factory=list)  # of the span, without the one that is held

    def is_complete(self, frame: Seen) -> bool:
        """Whether the held frame is to be written before `frame`, which is then measured against it and added."""
        if self.held is None or self._is_lost_in_blur(frame):
            return False
        if self.rule.per_second is not None:
            return self._bin(frame) != self._bin(self.held)
        if self.num_kept == 0:
            return self._num_waited >= FIRST_SPAN or frame.shift > self._far / 2
        if self._num_waited >= SPAN:
            return True
        far = 2 * self._far if self._is_blurred(self.held.sharpness) else self._far
        return frame.shift > far

    def add(self, frame: Seen) -> bool:
        """Takes a frame in; whether it is the one that is held from now on. First ask is_complete."""
        self.recent = [*self.recent[1 - AROUND :], frame.sharpness]
        if self.first_time_s is None:
            self.first_time_s = frame.time_s
        lost_in_blur = self._is_lost_in_blur(frame)
        self._num_lost = self._num_lost + 1 if lost_in_blur else 0
        if lost_in_blur or (self.num_kept and frame.shift < self._near):
            self._drop(frame)
            return False
        self._num_waited += 1
        if self.held is not None and frame.sharpness <= self.held.sharpness:
            self._rest.append(frame)
            return False
        if self.held is not None:
            self._rest.append(self.held)
        self.held = frame
        return True

    def keep(self) -> Seen:
        """The held frame is kept; the span begins anew after it."""
        assert self.held is not None
        kept = self.held
        for frame in self._rest:
            self._drop(frame)
        self.num_kept += 1
        self.held, self._num_waited, self._num_lost, self._rest = None, 0, 0, []
        return kept

    def finish(self) -> bool:
        """At the end of the video: whether the held frame is to be kept; it is not if it is blurred."""
        if self.held is None:
            return False
        if self.num_kept == 0 or not self._is_blurred(self.held.sharpness):
            return True
        for frame in (*self._rest, self.held):
            self._drop(frame)
        self.held, self._rest = None, []
        return False

    def _drop(self, frame: Seen) -> None:
        if frame.shift >= self._near and self._is_blurred(frame.sharpness):
            self.counts.blurred += 1
        else:
            self.counts.little += 1

    def _is_blurred(self, sharpness: float) -> bool:
        return sharpness < BLURRED * float(np.percentile(self.recent, SHARP_RANK))

    def _is_lost_in_blur(self, frame: Seen) -> bool:
        """A frame that shows nothing known because it is blurred says nothing of the motion; the next one may."""
        blurred = bool(self.recent) and self._is_blurred(frame.sharpness)
        return math.isinf(frame.shift) and blurred and self._num_lost < SPAN

    def _bin(self, frame: Seen) -> int:
        assert self.rule.per_second is not None
        return math.floor((frame.time_s - (self.first_time_s or 0.0)) * self.rule.per_second)

    @property
    def _near(self) -> float:
        return NEAR_EQUAL if self.rule.per_second is not None else max(NEAR_EQUAL, NEAR * self._scale)

    @property
    def _far(self) -> float:
        return FAR * self._scale

    @property
    def _scale(self) -> float:
        """How far apart frames are kept, where a number of them is asked for."""
        if self.rule.count is None:
            return 2.0 ** (self.num_kept // (MAX_KEPT // 2))
        return 2.0 ** (self.num_kept // (MANY * self.rule.count)) / FINER


def thinned(kept: Sequence[Seen], count: int) -> list[int]:
    """Positions of `count` of the kept frames, evenly along the way that the picture moved, the sharpest of each part.

    shift: of each since the one before it.
    """
    if len(kept) <= count:
        return list(range(len(kept)))
    steps = np.array([0.0, *(min(frame.shift, 2 * FAR) for frame in kept[1:])])
    way = np.cumsum(steps)
    part = np.minimum((way / max(way[-1], 1e-9) * count).astype(int), count - 1)
    chosen = {int(max(np.flatnonzero(part == p).tolist(), key=lambda i: kept[i].sharpness)) for p in np.unique(part)}
    while len(chosen) < count:  # parts that the picture crossed at one leap have no frame: more of where there are some
        left = [i for i in range(len(kept)) if i not in chosen]
        chosen.add(max(left, key=lambda i: min(abs(way[i] - way[j]) for j in chosen)))
    return sorted(chosen)
