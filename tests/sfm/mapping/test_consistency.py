"""agreement: majorities of exact matches, and of an image or a pair that is wrong."""

from dataclasses import replace

import numpy as np
import pycolmap

from sfm.mapping import consistency as A
from sfm.types import ImagePair
from tests.support.mapping_scene import NAMES, NUM

AGREE = {ImagePair(a, b): 9 for a in NAMES for b in NAMES if a < b}


def contradicted(*arguments):
    return {pair for pair, net in A.pair_votes(*arguments).items() if net < 0}


def keypoints_of(data):
    return {record.name: own for record, own in zip(data.images, data.keypoints, strict=True)}


def test_images_of_a_right_model_see_the_points_that_their_matches_lead_to(mapped, mapping_data):
    model = mapped[1].models[0]
    shares = A.shares_seen(model, mapping_data.matches)
    assert sorted(shares) == NAMES
    assert 0.8 < min(shares.values()) <= max(shares.values()) <= 1.0
    assert A.misregistered(model, mapping_data.matches, AGREE) == frozenset()


def test_an_image_that_lost_most_of_its_points_is_misregistered(mapped, mapping_data):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    image = model.find_image_with_name(NAMES[1])
    rows = [i for i, p in enumerate(image.points2D) if p.has_point3D()]
    for row in rows[: int(0.7 * len(rows))]:
        model.delete_observation(image.image_id, row)
    shares = A.shares_seen(model, mapping_data.matches)
    assert 0.2 < shares[NAMES[1]] < 0.4
    assert A.misregistered(model, mapping_data.matches, AGREE) == {NAMES[1]}


def test_exact_pairs_agree_and_permuted_ones_contradict(mapped, mapping_data):
    model, keypoints = mapped[1].models[0], keypoints_of(mapping_data)
    assert contradicted(model, keypoints, mapping_data.matches, 4.0) == set()
    first = mapping_data.matches[0]
    dealt = np.random.default_rng(0).permutation(first.indices[:, 1])
    wrong = replace(first, indices=np.stack([first.indices[:, 0], dealt], 1))
    found = contradicted(model, keypoints, (wrong, *mapping_data.matches[1:]), 4.0)
    assert found == {ImagePair(NAMES[0], NAMES[1])}


def test_pairs_of_a_rotated_image_contradict(mapped, mapping_data):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    image = model.find_image_with_name(NAMES[2])
    rotated = pycolmap.Rotation3d(np.array([0.0, 0.0, np.sin(0.5), np.cos(0.5)]))
    pose = image.cam_from_world()
    model.frame(image.frame_id).rig_from_world = pycolmap.Rigid3d(rotated * pose.rotation, pose.translation)
    found = contradicted(model, keypoints_of(mapping_data), mapping_data.matches, 4.0)
    assert found == {ImagePair.of(NAMES[2], NAMES[i]) for i in range(NUM) if i != 2}


def test_groups_whose_pairs_contradict_each_other_are_told_apart(mapped, mapping_data):
    model, first = mapped[1].models[0], set(NAMES[:2])
    across = [pair for pair in AGREE if (pair.name0 in first) != (pair.name1 in first)]
    votes = {**AGREE, **dict.fromkeys(across, -9)}
    assert A.misregistered(model, mapping_data.matches, votes) == first
    assert A.misregistered(model, mapping_data.matches, {**votes, across[0]: 5}) == first  # one pair joins nothing
    assert A.misregistered(model, mapping_data.matches, {**AGREE, across[0]: -20}) == frozenset()


def test_two_images_alone_cannot_be_judged(mapping_data):
    assert A.misregistered(pycolmap.Reconstruction(), mapping_data.matches, AGREE) == frozenset()
