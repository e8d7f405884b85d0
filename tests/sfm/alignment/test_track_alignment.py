"""track_alignment: observations of a roof that is photographed exactly come back to where they belong."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfm.alignment import patch_alignment
from sfm.alignment import track_alignment as T
from sfm.alignment.patch_warps import references
from sfm.alignment.pyramids import NUM_LEVELS, AlignmentImages, Pyramid, reduced_grey, reduced_size
from sfm.colmap.model_arrays import ModelColumns
from tests.support.plane_scene import (
    HEIGHT,
    NAMES,
    WIDTH,
    ground_truth_of,
    make_model,
    perturbed,
    rendered,
    surface_points,
)

MEMORY = 10**8
OCCLUDED = 3  # the image before which something stands
OCCLUDER = (slice(60, 180), slice(100, 220))


def occluded(i):
    grey = rendered(i)
    if i == OCCLUDED:
        grey = grey.copy()
        grey[OCCLUDER] = rendered(0, seed=7)[OCCLUDER]
    return grey


def observed(factor=1, max_size=0, grey=rendered, num=160):
    """Columns of a model whose observations are 1 px off but for the references, their ground truth, and images."""
    xyz = surface_points(num)
    columns = ModelColumns.of(make_model(xyz, perturbed(xyz, 1.0, factor), factor))
    reference = references(columns)
    ground_truth = ground_truth_of(columns, xyz, factor)
    columns.xy[reference] = ground_truth[reference]  # what is measured is against them
    sizes = np.tile([float(WIDTH * factor), float(HEIGHT * factor)], (5, 1))
    scale = np.array([reduced_size(WIDTH * factor, HEIGHT * factor, max_size)] * 5) / sizes
    images = AlignmentImages(
        lambda row: Pyramid.of(reduced_grey(grey(NAMES.index(columns.names[row])), max_size), NUM_LEVELS),
        scale,
        np.ones(5),
    )
    return columns, reference, ground_truth, images


@pytest.fixture(scope="module")
def scene():
    return observed()


@pytest.fixture(scope="module")
def aligned(scene):
    columns, reference, _, images = scene
    return T.align_tracks(columns, reference, images, from_level=1, memory=MEMORY)


def others(columns, reference):
    return np.setdiff1d(np.arange(len(columns.xy)), reference)


def test_perturbed_observations_come_back(scene, aligned):
    columns, reference, ground_truth, _ = scene
    rows = others(columns, reference)
    before, after = (np.linalg.norm((xy - ground_truth)[rows], axis=1) for xy in (columns.xy, aligned.xy))
    assert len(rows) == 4 * len(reference) == 640
    assert np.median(before) > 1.0
    assert np.median(after) < 0.05
    assert np.quantile(after, 0.95) < 0.15
    assert aligned.correlation[rows].min() > 0.8


def test_information_is_of_the_size_of_the_errors(scene, aligned):
    columns, reference, ground_truth, _ = scene
    rows = others(columns, reference)
    offset = (aligned.xy - ground_truth)[rows]
    squared = np.einsum("ni,nij,nj->n", offset, aligned.information[rows], offset)
    assert 0.3 < np.sqrt(np.median(squared) / 1.386) < 3
    np.testing.assert_allclose(aligned.information, aligned.information.transpose(0, 2, 1), rtol=1e-3)


def test_references_stay(scene, aligned):
    columns, reference, _, _ = scene
    np.testing.assert_array_equal(aligned.xy[reference], columns.xy[reference])
    assert (aligned.correlation[reference] == 1).all()
    assert (aligned.information[reference] == 0).all()


def test_blocks_of_little_memory_give_the_same(scene, aligned, monkeypatch):
    columns, reference, _, images = scene
    seen = []
    blocks = T.blocks

    def counted(*arguments):
        for block in blocks(*arguments):
            seen.append(block)
            yield block

    monkeypatch.setattr(T, "blocks", counted)
    little = T.align_tracks(columns, reference, images, from_level=1, memory=150_000)
    assert len(seen) > 4
    rows = np.concatenate([block.rows for block in seen])
    np.testing.assert_array_equal(np.sort(rows), others(columns, reference))
    points = [set(columns.point[block.rows]) for block in seen]
    assert sum(map(len, points)) == len(set().union(*points))  # by whole points
    np.testing.assert_allclose(little.xy, aligned.xy, atol=0.01)
    np.testing.assert_allclose(little.correlation, aligned.correlation, atol=1e-3)


def test_a_little_more_free_memory_changes_nothing(scene):
    """Another run must give the same bits though the system has more or less free by then."""
    columns, reference, _, images = scene
    one, other = (T.align_tracks(columns, reference, images, from_level=1, memory=m) for m in (1_000_000, 700_000))
    np.testing.assert_array_equal(one.xy, other.xy)
    np.testing.assert_array_equal(one.information, other.information)


def test_out_of_memory_halves_what_is_aligned_at_once(monkeypatch, caplog):
    columns, reference, _, images = observed(num=40)
    whole = T.align_tracks(columns, reference, images, from_level=1, memory=MEMORY)
    align, sizes = patch_alignment.align, []

    def small_gpu(pyramid, templates, *args, **more):
        if len(templates.norm) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(templates.norm))
        return align(pyramid, templates, *args, **more)

    monkeypatch.setattr(patch_alignment, "align", small_gpu)
    halved = T.align_tracks(columns, reference, images, from_level=1, memory=MEMORY)
    assert 5 <= max(sizes) <= 10
    assert "out of memory: aligning" in caplog.text
    np.testing.assert_allclose(halved.xy, whole.xy, atol=0.01)


def test_patches_go_when_they_are_done_with():
    """Without the garbage collector: whatever holds itself would pile up block by block."""
    columns, reference, _, images = observed(num=40)
    patches: list[weakref.ref[torch.Tensor]] = []
    make = T.reference_patches

    def noted(*args):
        found = make(*args)
        patches.append(weakref.ref(found[0]))
        return found

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(T, "reference_patches", noted)
            T.align_tracks(columns, reference, images, from_level=1, memory=20_000)
        assert len(patches) > 4
        assert not [ref for ref in patches if ref() is not None]
    finally:
        gc.enable()


def test_memory_for_less_than_one_point_is_enough():
    columns, reference, _, images = observed(num=6)
    least = T.align_tracks(columns, reference, images, from_level=1, memory=1)
    most = T.align_tracks(columns, reference, images, from_level=1, memory=MEMORY)
    np.testing.assert_allclose(least.xy, most.xy, atol=0.01)


def test_reduced_images_give_positions_in_px_of_the_images(aligned):
    columns, reference, ground_truth, images = observed(factor=2, max_size=WIDTH, grey=lambda i: rendered(i, 2))
    np.testing.assert_array_equal(images.scale, 0.5)
    found = T.align_tracks(columns, reference, images, from_level=1, memory=MEMORY)
    rows = others(columns, reference)
    assert np.median(np.linalg.norm((found.xy - ground_truth)[rows], axis=1)) < 0.1
    # the same pixels as of the small images, so a quarter of the information per px² of the large ones
    share = np.linalg.det(found.information[rows]) / np.linalg.det(aligned.information[rows])
    assert 1 / 4 / 2 < np.sqrt(np.median(share)) < 2 / 4


def test_images_of_several_scales_are_compared():
    """One image is read at half its size, and so are patches of others that are compared with it."""
    columns, reference, ground_truth, images = observed()
    half = 4
    scale = images.scale.copy()
    scale[half] = 0.5

    def read(row):
        grey = rendered(NAMES.index(columns.names[row]))
        return Pyramid.of(reduced_grey(grey, WIDTH // 2 if row == half else 0), NUM_LEVELS)

    found = T.align_tracks(columns, reference, AlignmentImages(read, scale, np.ones(5)), from_level=1, memory=MEMORY)
    rows = others(columns, reference)
    error = np.linalg.norm((found.xy - ground_truth)[rows], axis=1)
    at_half = columns.image[rows] == half
    assert np.median(error[at_half]) < 0.1
    assert np.median(error[~at_half]) < 0.05
    assert np.median(found.correlation[rows][at_half]) > 0.95


def test_what_stands_in_front_has_a_low_correlation():
    columns, reference, ground_truth, images = observed(grey=occluded)
    found = T.align_tracks(columns, reference, images, from_level=1, memory=MEMORY)
    rows = others(columns, reference)
    x, y = ground_truth[rows].T
    inside = (columns.image[rows] == OCCLUDED) & (x > 110) & (x < 210) & (y > 70) & (y < 170)
    clear = (columns.image[rows] != OCCLUDED) & (columns.image[reference][columns.point[rows]] != OCCLUDED)
    assert inside.sum() > 15
    assert np.quantile(found.correlation[rows][inside], 0.8) < 0.7
    assert np.median(found.correlation[rows][inside]) < 0.5
    assert found.correlation[rows][clear].min() > 0.8


def test_what_is_seen_much_larger_is_not_compared():
    columns, reference, _, images = observed(num=6)
    shifted = columns.translations.copy()
    far = next(i for i in range(5) if i not in columns.image[reference])
    shifted[far, 2] *= 3 * T.MAX_SCALE
    object.__setattr__(columns, "translations", shifted)
    found = T.align_tracks(columns, reference, images, from_level=0, memory=MEMORY)
    there = columns.image == far
    assert (found.correlation[there] == -1).all()
    assert (found.information[there] == 0).all()
    np.testing.assert_array_equal(found.xy[there], columns.xy[there])


def test_blocks_hold_neighbours_and_as_many_points_as_fit(monkeypatch):
    """Each block has the points of some reference images, so that few images are read for it."""
    columns, reference, _, images = observed(num=40)
    found, blocks = [], T.blocks

    def noted(*arguments):
        for block in blocks(*arguments):
            found.append(block)
            yield block

    monkeypatch.setattr(T, "blocks", noted)
    side = T.Window.of_radius(T.WINDOW_RADIUS).side
    T.align_tracks(columns, reference, images, from_level=0, memory=int(16 * side**2 * 4 / T.READY_PATCHES))
    assert 3 <= len(found) <= 8  # a reference's patch is counted once, however many observations it has
    assert all(len(np.unique(block.reference * NUM_LEVELS + block.template)) <= 16 for block in found)
    assert (np.diff(np.concatenate([columns.image[block.reference] for block in found])) >= 0).all()


def job_between(num, partners):
    """Columns of num images with a reference observation each, and a job of one observation of it in each partner."""
    pairs = [(image, other) for image in range(num) for other in partners(image) if 0 <= other < num and other != image]
    reference, image = np.array(pairs).T
    zeros = np.zeros(len(pairs), np.int8)
    columns = SimpleNamespace(names=tuple(map(str, range(num))), image=np.arange(num))
    return columns, T.Job(np.arange(len(pairs)), reference, image, zeros, zeros, np.zeros((len(pairs), 2, 2)))


def test_a_walk_is_parted_by_images_and_a_ring_around_one_thing_is_not():
    columns, walk = job_between(100, lambda image: range(image - 3, image + 4))
    ends = T.ends_by_images(walk, columns, 16, most_reads=200)
    assert len(ends) > 5
    assert ends[-1] == len(walk.rows)
    starts = [0, *ends[:-1]]
    parts = [set(walk.image[a:b]) | set(walk.reference[a:b]) for a, b in zip(starts, ends, strict=True)]
    assert max(map(len, parts)) <= 16
    columns, ring = job_between(100, lambda _: range(100))
    np.testing.assert_array_equal(T.ends_by_images(ring, columns, 16, most_reads=200), [len(ring.rows)])
    columns, groups = job_between(100, lambda image: range(image - image % 20, image - image % 20 + 20))
    np.testing.assert_array_equal(T.ends_by_images(groups, columns, 16, most_reads=200), [len(groups.rows)])
    assert len(T.ends_by_images(groups, columns, 32, most_reads=200)) == 5


def test_where_nothing_can_be_aligned_all_stays():
    """Each image is a thousand times as large as the one before: there is no map between any two."""
    columns, reference, _, images = observed(num=6)
    images = replace(images, scale=images.scale * 1000.0 ** np.arange(5)[:, None])
    found = T.align_tracks(columns, reference, images, from_level=0, memory=MEMORY)
    np.testing.assert_array_equal(found.xy, columns.xy)
    assert sorted(set(found.correlation)) == [-1.0, 1.0]
