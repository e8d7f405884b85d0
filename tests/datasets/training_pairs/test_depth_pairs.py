"""Pairs of an exact RGB-D sequence: where the warps lead, what is hidden, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from sfm.datasets.training_pairs.depth_pairs import DepthDifficulty, DepthPairs, DepthSequence
from sfm.errors import BadFile
from tests.support.depth_sequence import NUM, roof_sequence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Read only."""
    return roof_sequence(tmp_path_factory.mktemp("sequence") / "roof")


@pytest.fixture(scope="module")
def pairs(folder):
    return DepthPairs([DepthSequence.read(folder)], size=(192, 256), difficulty=DepthDifficulty(overlap=(0.1, 1.0)))


def patch(image, xy, radius=4):
    x, y = np.rint(np.asarray(xy) - 0.5).astype(int)
    if min(x, y) < radius or x + radius >= image.shape[1] or y + radius >= image.shape[0]:
        return None
    return image[y - radius : y + radius + 1, x - radius : x + radius + 1].astype(float)


def test_warps_lead_to_what_looks_the_same(pairs):
    """Upright cuts at one scale, so that patches can be compared as they are."""
    gentle = DepthDifficulty(overlap=(0.5, 1.0), max_zoom=1.0, in_plane_deg=0.0)
    upright = DepthPairs([pairs.pairs[0][0]], size=(240, 320), difficulty=gentle)
    found, chance = [], []
    for index in range(6):
        pair = upright.pair(index)
        for row, column in np.argwhere(np.isfinite(pair.warp01[..., 0]))[::9]:
            own = patch(pair.image0, (8 * column + 0.5, 8 * row + 0.5))
            there = patch(pair.image1, pair.warp01[row, column])
            other = patch(pair.image1, np.roll(pair.warp01[row, column], 1))
            if own is not None and there is not None and other is not None:
                found.append(np.corrcoef(own.ravel(), there.ravel())[0, 1])
                chance.append(np.corrcoef(own.ravel(), other.ravel())[0, 1])
    assert len(found) > 50
    assert np.median(found) > 0.75
    assert np.median(chance) < 0.3


def test_both_warps_agree(pairs):
    """There and back again: to within the change of the warp in half a cell."""
    for index in range(5):
        pair = pairs.pair(index)
        rows, columns = np.nonzero(np.isfinite(pair.warp01[..., 0]))
        there = pair.warp01[rows, columns]
        cells = np.rint((there - 0.5) / 8).astype(int)
        inside = (cells[:, 0] < 32) & (cells[:, 1] < 24)
        back = pair.warp10[cells[inside, 1], cells[inside, 0]]
        own = np.stack([columns, rows], axis=1)[inside] * 8 + 0.5
        error = np.linalg.norm(back - own, axis=1)
        assert np.nanmedian(error) < 6


def test_a_pair_depends_on_its_index_alone(pairs, folder):
    again = DepthPairs([DepthSequence.read(folder)], size=(192, 256), difficulty=DepthDifficulty(overlap=(0.1, 1.0)))
    for name in ("image0", "image1", "warp01", "warp10", "known0", "known1"):
        np.testing.assert_array_equal(getattr(pairs.pair(3), name), getattr(again.pair(3), name))


def test_without_depth_nothing_is_known(folder, tmp_path):
    hidden = roof_sequence(tmp_path / "roof")
    for path in (hidden / "depth").iterdir():
        with Image.open(path) as image:
            depth = np.array(image)
        depth[:, depth.shape[1] // 2 :] = 0
        Image.fromarray(depth).save(path)
    sequence = DepthSequence.read(hidden)
    made = DepthPairs([sequence], size=(240, 320), difficulty=DepthDifficulty((0.05, 1.0), 75, 1.0, 0.0))
    pair = made.pair(0)
    right = pair.known0[4:-4, 24:-4]
    assert not np.isfinite(pair.warp01[4:-4, 24:-4]).any()
    assert not right.any()
    assert pair.known0[4:-4, 4:16].mean() > 0.5


def test_held_out_frames_are_others(folder):
    training, held_out = DepthSequence.read(folder).held_out(8)
    assert len(training.paths) + len(held_out.paths) == NUM
    assert not set(training.paths) & set(held_out.paths)
    assert len(held_out.world_from_cam) == len(held_out.paths) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("poses.txt", "1 2 3", "3 numbers a line; give 16"),
        ("poses.txt", " ".join("1" * 16), "1 poses for 16 images"),
        ("poses.txt", "nan " * 16, "give 16 finite ones"),
        ("K.txt", "1 0 0", "not a camera matrix"),
    ],
)
def test_what_is_refused(tmp_path, name, content, message):
    folder = roof_sequence(tmp_path / "roof")
    (folder / name).write_text(content)
    with pytest.raises(BadFile, match=message):
        DepthSequence.read(folder)


def test_a_missing_depth_image_is_named(tmp_path):
    folder = roof_sequence(tmp_path / "roof")
    (folder / "depth" / "03.png").unlink()
    with pytest.raises(BadFile, match=r"03\.png: no such depth image"):
        DepthSequence.read(folder)
