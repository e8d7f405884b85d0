"""Recognising panoramas: what wraps around, and what only has their shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfm.errors import BadOption
from sfm.images.index import read_images_index
from sfm.options import ImageOptions
from sfm.rigs.panoramas import find_panoramas, is_panorama, required_panoramas
from tests.support import panorama_scene as scene


def noisy(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("width", [512, 1024, 1500])
def test_a_panorama_of_the_whole_sphere_is_one_at_any_size(width):
    assert is_panorama(scene.panorama(1, width))


def test_noise_and_a_turn_around_its_axis_do_not_matter():
    image = scene.panorama(0)
    assert is_panorama(noisy(image, 6.0))
    assert is_panorama(np.roll(image, 333, axis=1))


def test_a_missing_column_does_not_matter_and_missing_degrees_do():
    image = scene.panorama(0)
    assert is_panorama(image[:, :-1])
    cut = image[10:-10, 20:-20]  # 346 of 360 degrees, and still twice as wide as high
    assert cut.shape == (492, 984)
    assert not is_panorama(cut)


def test_an_image_of_the_same_room_and_shape_is_none():
    for i in range(4):
        for focal in (300.0, 700.0):
            assert not is_panorama(scene.pinhole(scene.poses()[i], 1024, 512, focal))


def sea():
    """Sky above and sea below: both edges have one horizon, and look much alike."""
    rows = np.where(np.arange(400) < 180, 220 - 0.2 * np.arange(400), 90 - 0.05 * np.arange(400))
    waves = np.random.default_rng(2).normal(0, 8, (400, 800)) * (np.arange(400) >= 180)[:, None]
    return np.clip(rows[:, None] + waves, 0, 255).astype(np.uint8)


def framed():
    """An image in a black frame: its edges are equal."""
    image = scene.pinhole(scene.poses()[0], 800, 400, 500.0).copy()
    image[:30], image[-30:], image[:, :30], image[:, -30:] = 0, 0, 0, 0
    return image


def turntable():
    """Something in front of black."""
    y, x = np.mgrid[-200:200, -400:400]
    return np.where(x**2 + y**2 < 150**2, scene.pinhole(scene.poses()[0], 800, 400, 500.0), 0).astype(np.uint8)


def mirrored():
    """The left half and its mirror image: edges are equal, poles are none."""
    half = scene.pinhole(scene.poses()[0], 400, 400, 300.0)
    return np.hstack([half, half[:, ::-1]])


@pytest.mark.parametrize("image", [sea(), framed(), turntable(), mirrored(), np.full((400, 800), 128, np.uint8)])
def test_equal_edges_alone_make_no_panorama(image):
    assert not is_panorama(image)


def test_images_of_a_set_are_of_one_kind_by_majority(tmp_path):
    folder = scene.write_panoramas(tmp_path / "images")
    broken = scene.panorama(3).copy()
    broken[:, :6] = 255 - broken[:, :6]  # a seam that does not close
    assert not is_panorama(broken)
    Image.fromarray(broken).save(folder / "3.png")
    other = tmp_path / "images" / "other"
    other.mkdir()
    for i in range(2):
        Image.fromarray(scene.pinhole(scene.poses()[i], 800, 400, 300.0)).save(other / f"{i}.png")
    records, _ = read_images_index(folder, ImageOptions())
    assert find_panoramas(folder, records) == {f"{i}.png" for i in range(4)}


def test_what_must_be_panoramas_and_cannot_be_is_said_in_one_line(tmp_path):
    folder = scene.write_panoramas(tmp_path / "images", 2)
    records, _ = read_images_index(folder, ImageOptions())
    assert required_panoramas(records) == {"0.png", "1.png"}
    square = replace(records[1], width=700)
    with pytest.raises(BadOption, match=r"--camera-model EQUIRECTANGULAR: 1.png is 700x512, and a panorama"):
        required_panoramas([records[0], square])


def test_real_panoramas_are_found(shared_dir):
    paths = sorted((shared_dir / "cases" / "equirect_360" / "images").glob("*.jpg"))
    if not paths:
        pytest.skip("cases/equirect_360 is not there")
    assert all(is_panorama(np.asarray(Image.open(path).convert("L"))) for path in paths)


@pytest.mark.slow
def test_real_images_cut_to_that_shape_are_never_taken_for_panoramas(shared_dir):
    paths = sorted((shared_dir / "datasets").glob("*/images/*"))[::4]
    taken = []
    for path in paths:
        image = Image.open(path).convert("L")
        height = image.width // 2
        top = (image.height - height) // 2
        taken += [path.name] if is_panorama(np.asarray(image.crop((0, top, 2 * height, top + height)))) else []
    assert taken == []
