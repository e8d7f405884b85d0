from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm.errors import BadOption
from sfm.images.video.keyframes import Chooser, FrameRule, Seen, thinned

BY_MOTION = FrameRule()


def choose(
    ways: list[float], sharp: list[float], rule: FrameRule = BY_MOTION, rate: float = 30
) -> tuple[list[int], Chooser]:
    """Runs the chooser over frames that lie at `ways` along the picture's motion."""
    chooser, kept, since = Chooser(rule), [], ways[0]
    for i, (way, s) in enumerate(zip(ways, sharp, strict=True)):
        frame = Seen(i, i / rate, s, abs(way - since))
        if chooser.is_complete(frame):
            kept.append(chooser.keep().index)
            since = ways[kept[-1]]
            frame = Seen(i, i / rate, s, abs(way - since))
        chooser.add(frame)
    if chooser.finish():
        kept.append(chooser.keep().index)
    return kept, chooser


@pytest.mark.parametrize(("text", "rule"), [
    (None, FrameRule()), ("200", FrameRule(count=200)), ("2fps", FrameRule(per_second=2)),
    (" 0.5 FPS", FrameRule(per_second=0.5)),
])  # fmt: skip
def test_rules(text: str | None, rule: FrameRule) -> None:
    assert FrameRule.of(text) == rule


@pytest.mark.parametrize("text", ["", "0", "1", "-5", "2.5", "0fps", "fast", "200 frames", "1e3", "999999999"])
def test_bad_rules_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadOption, match=r"--frames .*\(200\) or how many a second \(2fps\)"):
        FrameRule.of(text)


def test_a_steady_pan_is_kept_at_a_twentieth_to_a_tenth() -> None:
    ways = [i * 0.01 for i in range(300)]
    kept, chooser = choose(ways, [10.0] * 300)
    gaps = np.diff([ways[i] for i in kept])
    assert gaps.min() >= 0.05 - 1e-9
    assert gaps.max() <= 0.10
    assert chooser.counts.blurred == 0
    assert len(kept) + chooser.counts.little == 300


def test_of_each_span_the_sharpest_is_kept() -> None:
    ways = [i * 0.01 for i in range(300)]
    rng = np.random.default_rng(0)
    sharp = np.where(rng.random(300) < 0.4, 3.0, 10.0).tolist()
    kept, chooser = choose(ways, sharp)
    assert all(sharp[i] == 10 for i in kept)
    assert 25 < len(kept) < 65
    assert chooser.counts.blurred > 20
    assert len(kept) + chooser.counts.little + chooser.counts.blurred == 300


def test_a_still_camera_gives_one_frame() -> None:
    kept, chooser = choose([0.0] * 200, [10.0] * 200)
    assert len(kept) == 1
    assert chooser.counts.little == 199


def test_a_long_blur_is_waited_for_within_limits() -> None:
    """Where the picture has moved twice as far, the blurred one is better than none, or the row would break."""
    ways = [i * 0.01 for i in range(100)]
    sharp = [10.0] * 30 + [2.0] * 40 + [10.0] * 30
    kept, _ = choose(ways, sharp)
    assert max(np.diff([ways[i] for i in kept])) <= 2 * 0.09 + 0.011


def test_a_blur_in_which_all_is_lost_is_no_reason_to_keep_a_frame() -> None:
    chooser, kept = Chooser(BY_MOTION), []
    for i in range(100):
        is_blurred = i % 5 == 2
        frame = Seen(i, i / 30, 1.0 if is_blurred else 10.0, np.inf if is_blurred else 0.01 * (i - (kept or [0])[-1]))
        if chooser.is_complete(frame):
            kept.append(chooser.keep().index)
            frame = replace(frame, shift=np.inf if is_blurred else 0.01 * (i - kept[-1]))
        chooser.add(frame)
    assert not any(i % 5 == 2 for i in kept)
    assert 9 <= len(kept) <= 20
    assert chooser.counts.blurred >= 19


def test_a_rate_takes_the_sharpest_of_each_part_that_moved() -> None:
    ways = [0.0] * 60 + [i * 0.01 for i in range(60)]
    sharp = [10.0 + (i % 15 == 7) for i in range(120)]
    kept, _ = choose(ways, sharp, FrameRule(per_second=2))
    assert kept == [7, 67, 82, 97, 112]


def test_thinning_is_even_along_the_way_and_prefers_the_sharp() -> None:
    kept = [Seen(i, i / 30, 10.0 + (i % 4 == 2), 0.0125) for i in range(400)]
    chosen = thinned(kept, 100)
    assert len(chosen) == 100
    assert sum(i % 4 == 2 for i in chosen) >= 95
    assert thinned(kept[:50], 100) == list(range(50))


def test_thinning_gives_the_number_where_the_picture_leapt() -> None:
    kept = [Seen(i, i / 30, 10.0, np.inf if i == 20 else 0.0125) for i in range(40)]
    assert len(thinned(kept, 30)) == 30
