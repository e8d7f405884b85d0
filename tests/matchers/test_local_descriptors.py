from __future__ import annotations

import numpy as np
import pytest

from sfm.errors import BadImage
from sfm.matchers.local_descriptors import WIDTH, LocalDescriptors
from tests.support.clips import view, wall


@pytest.fixture(scope="module")
def network() -> LocalDescriptors:
    return LocalDescriptors()


def test_an_image_has_the_same_descriptors_alone_and_among_others(network: LocalDescriptors) -> None:
    images = [view(wall(), x)[..., 0] for x in (0, 700, 1400)]
    together = network.of(images)
    assert [own.shape for own in together] == [(20 * 12, WIDTH)] * 3
    for image, own in zip(images, together, strict=True):
        assert np.array_equal(network.of([image])[0], own)
    assert not np.array_equal(together[0], together[1])


def test_size_hardly_matters(network: LocalDescriptors) -> None:
    """The network sees 320 px of any image; one of another shape has descriptors of its own number."""
    large = np.kron(view(wall(), 0)[..., 0], np.ones((3, 3), np.uint8))
    small, big = (own[0].astype(np.float32) for own in (network.of([view(wall(), 0)[..., 0]]), network.of([large])))
    cosine = (small * big).sum(1) / np.linalg.norm(small, axis=1) / np.linalg.norm(big, axis=1)
    assert np.median(cosine) > 0.95
    assert len(network.of([large[:, :192]])[0]) == 20 * 7


def test_a_mask_leaves_out_its_places(network: LocalDescriptors) -> None:
    image = view(wall(), 0)[..., 0]
    mask = np.zeros(image.shape, bool)
    assert len(network.of([image], [mask])[0]) == 0
    mask[:96] = True
    assert np.array_equal(network.of([image], [mask])[0], network.of([image])[0][:120])


def test_colour_is_refused(network: LocalDescriptors) -> None:
    with pytest.raises(BadImage, match="8-bit grey"):
        network.of([view(wall(), 0)])
