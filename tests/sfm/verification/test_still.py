"""still: what stands still while the rest moves is left out; ordinary sets lose nothing."""

import numpy as np
import pytest

from sfm.options import VerificationOptions
from sfm.types import MatcherTraits
from sfm.verification import stage
from sfm.verification.stage import still_parts, verify
from tests.support.mapping_scene import HEIGHT, WIDTH
from tests.support.two_motions import ball, image_set, pose, seen, turntable

OPTIONS = VerificationOptions()
DENSE = MatcherTraits(dense=True)
NUM = 6


def room(seed=0, num=900, low=4.0, high=8.0):
    return np.random.default_rng(seed).uniform([-6, -4, low], [6, 4, high], (num, 3))


def found(scene, traits=DENSE):
    items, records, grids = scene
    matches = dict(items)
    return still_parts(list(matches), matches.__getitem__, records, grids, OPTIONS, traits=traits)


def outside_ball(background, xy):
    """The background's points that the ball does not hide: it is within 140 px of the image's middle."""
    where, inside = background
    return where, inside & (np.linalg.norm(xy - [WIDTH / 2, HEIGHT / 2], axis=1) > 140)


def before_a_background(shake_deg):
    """An object that turns before a wall, the camera in a hand that shakes."""
    rng = np.random.default_rng(5)
    wall = room(seed=1, low=9, high=11)
    layers = []
    for turn in turntable(12.0, NUM):
        hand = pose(rng.uniform(-shake_deg, shake_deg, 3), np.zeros(3))
        shaken = np.column_stack([hand[:, :3] @ turn[:, :3], hand[:, :3] @ turn[:, 3]])
        background = seen(hand, wall)
        layers.append([seen(shaken, ball(), facing=True), outside_ball(background, background[0])])
    return image_set(layers, NUM)


@pytest.mark.parametrize("shake_deg", [0.0, 1.5])
def test_a_still_background_is_left_out_and_the_object_followed(shake_deg):
    scene = before_a_background(shake_deg)
    items, records, grids = scene
    still = found(scene)
    assert len(still.cells) == NUM
    columns = np.arange(WIDTH // 8) * 8 + 4.0
    rows = np.arange(HEIGHT // 8) * 8 + 4.0
    from_middle = np.hypot(columns[None] - WIDTH / 2, rows[:, None] - HEIGHT / 2).ravel()
    for cells in still.cells.values():
        assert cells[from_middle < 80].mean() < 0.02  # of the object
        assert cells[from_middle > 200].mean() > 0.5  # as far as there are points
    assert "stands still" in still.note(NUM)
    assert "--masks" in still.note(NUM)
    true = turntable(12.0, NUM)
    geometries = verify(items, records, grids, OPTIONS, traits=DENSE, still=still)
    neighbours = [g for g in geometries if int(g.pair.name1[:2]) - int(g.pair.name0[:2]) == 1]
    assert all(len(g.inliers) > 50 for g in neighbours)
    if shake_deg == 0:
        for g in neighbours:
            i, j = int(g.pair.name0[:2]), int(g.pair.name1[:2])
            turned = true[j][:, :3] @ true[i][:, :3].T
            assert np.degrees(np.arccos((np.trace(turned @ g.cam1_from_cam0[:, :3].T) - 1) / 2)) < 3


def test_an_overlay_that_all_images_have_is_left_out():
    """A timestamp, a bonnet: the same pixels whatever the camera does."""
    rng = np.random.default_rng(2)
    overlay = rng.uniform([20, 400], [620, 470], (250, 2))
    points = room()
    layers = []
    for i in range(NUM):
        xy, inside = seen(pose([4.0 * i - 10, 2.0 * (i % 2), 0], np.array([0.5 * i - 1.2, 0.1 * i, 0.2 * i])), points)
        layers.append([(xy, inside & (xy[:, 1] < 390)), (overlay, np.ones(len(overlay), bool))])
    scene = image_set(layers, NUM)
    still = found(scene)
    assert len(still.cells) == NUM
    for cells in still.cells.values():
        by_row = cells.reshape(HEIGHT // 8, WIDTH // 8).mean(axis=1)
        assert by_row[51:58].mean() > 0.7
        assert by_row[:46].max() < 0.05


def tripod_bursts():
    """Two images from each of three places: pairs of one place do not move."""
    places = [pose([8.0 * (i // 2) - 8, 0, 0], np.array([0.8 * (i // 2) - 0.8, 0, 0])) for i in range(NUM)]
    return image_set([[seen(p, room())] for p in places], NUM)


def small_motion():
    """Frames of a video: hardly a pixel between neighbours far away, ten nearby."""
    return image_set(
        [
            [seen(pose([0.1 * i, 0.05 * i, 0], np.array([0.03 * i, 0.01 * i, 0.02 * i])), room(low=2, high=12))]
            for i in range(NUM)
        ],
        NUM,
    )


def pure_rotation():
    return image_set([[seen(pose([2.0 * i, 1.0 * (i % 3), 0], np.zeros(3)), room())] for i in range(NUM)], NUM)


def distant_background():
    """Mountains that stand still behind what is near, the camera moving sideways."""
    far, near = room(seed=1, low=4000, high=8000) * [800, 400, 1], room(seed=2, num=500, low=4, high=6)
    poses = [pose([0, 0, 0], np.array([0.4 * i - 1.0, 0.05 * (i % 2), 0.1 * i])) for i in range(NUM)]
    layers = []
    for p in poses:
        xy, inside = seen(p, far)
        layers.append([(xy, inside & (xy[:, 1] < 200)), seen(p, near)])
    return image_set(layers, NUM)


def driving_ahead():
    """What lies ahead stands still, in images of a camera that moves towards it."""
    return image_set(
        [[seen(pose([0, 0, 0], np.array([0, 0, 0.5 * i])), room(num=1500, low=4, high=40))] for i in range(NUM)], NUM
    )


def around_an_object():
    return image_set([[seen(p, ball(), facing=True)] for p in turntable(12.0, NUM)], NUM)


@pytest.mark.parametrize(
    "scene", [tripod_bursts, small_motion, pure_rotation, distant_background, driving_ahead, around_an_object]
)
def test_ordinary_sets_lose_nothing(scene):
    items, records, grids = scene()
    still = found((items, records, grids))
    assert still.cells == {}
    assert still.note(NUM) is None
    for pair, matches in items:
        assert len(still.moving_rows(pair, matches, 2.0, 800.0)) == len(matches)


def test_matches_of_a_detector_and_images_of_two_sizes_are_not_looked_at():
    items, records, grids = before_a_background(0.0)
    assert found((items, records, grids), traits=MatcherTraits()).cells == {}
    assert found((items, records, dict.fromkeys(grids))).cells == {}
    assert found(([], records, grids)).cells == {}


def test_of_many_pairs_some_are_tried(monkeypatch):
    monkeypatch.setattr(stage, "PROBES", 3)
    for scene, others_too in ((before_a_background(0.0), True), (pure_rotation(), False)):
        items, records, grids = scene
        matches, read = dict(items), []

        def read_matches(pair, matches=matches, read=read):
            read.append(pair)
            return matches[pair]

        still_parts(list(matches), read_matches, records, grids, OPTIONS, traits=DENSE)
        assert (len(read) == len(matches)) == others_too
        assert others_too or len(read) == 4
        assert len(set(read)) == len(read)
