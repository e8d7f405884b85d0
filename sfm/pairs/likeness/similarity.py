"""How much two images look alike, from their local descriptors alone: ASMK over a vocabulary of the very images.

ASMK (Tolias, Avrithis, Jegou, IJCV 2016): the descriptors of an image that fall to one word are summed up as residuals
to the word's centre, a unit vector for each word; two images are compared word by word, with a selective kernel that
counts near vectors much more than others. Descriptors are centred and scaled to unit length, not whitened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NUM_WORDS = 1024
PER_WORD = 20  # descriptors of the images, at least; fewer images have fewer words
SAMPLES = 40  # descriptors of each word that the vocabulary is made from
ITERATIONS = 10  # of k-means
ALPHA = 3.0  # of the selective kernel, equation 16
_BLOCK = 16_384  # descriptors that are compared with the vocabulary at once

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Aggregated:
    """Unit vectors (V, C) f32, sorted by word and then by image, with their words and images (V,) i64."""

    word: NDArray[np.int64]
    image: NDArray[np.int64]
    vector: Float


def similarities(descriptors: Sequence[NDArray[np.floating]], *, seed: int = 0) -> Float:
    """(N, N) f32 from 0 to 1, symmetric, 1 on the diagonal; 0 for an image without descriptors.

    descriptors: (T, C) of each image, T may differ and be 0.
    """
    num = len(descriptors)
    found = np.eye(num, dtype=np.float32)
    counts = [len(own) for own in descriptors]
    if sum(counts) < 2 * PER_WORD:
        return found
    every = _centred(np.concatenate([np.asarray(own, np.float32) for own in descriptors if len(own)]))
    image = np.repeat(np.arange(num), counts)
    words = _vocabulary(every, min(NUM_WORDS, len(every) // PER_WORD), seed)
    own = _aggregated(every, image, words)
    total = np.zeros((num, num), np.float32)
    bounds = np.flatnonzero(np.diff(own.word, prepend=-1, append=len(words)))
    for start, stop in pairwise(bounds.tolist()):
        vector, rows = own.vector[start:stop], own.image[start:stop]
        rarity = np.float32(np.log1p(num / len(rows)))  # a word that most images have says little
        total[np.ix_(rows, rows)] += rarity * np.maximum(vector @ vector.T, 0) ** ALPHA
    norm = np.sqrt(np.maximum(np.diag(total), 1e-9))
    total /= norm[:, None] * norm[None]
    np.fill_diagonal(total, 1)
    symmetric: Float = (total + total.T) / np.float32(2)
    return symmetric


def _centred(descriptors: Float) -> Float:
    centred = descriptors - descriptors.mean(axis=0, dtype=np.float64).astype(np.float32)
    return _unit(centred)


def _unit(vectors: Float) -> Float:
    unit: Float = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))
    return unit


def _nearest(descriptors: Float, words: Float) -> NDArray[np.int64]:
    """(T,) i64: the nearest word of each descriptor."""
    half = 0.5 * (words * words).sum(axis=1)
    parts = [
        (descriptors[start : start + _BLOCK] @ words.T - half).argmax(axis=1)
        for start in range(0, len(descriptors), _BLOCK)
    ]
    return np.concatenate(parts)


def _vocabulary(descriptors: Float, num_words: int, seed: int) -> Float:
    """(W, C) f32 centres by k-means over a sample."""
    rng = np.random.default_rng(seed)
    sample = descriptors[
        np.sort(rng.choice(len(descriptors), min(len(descriptors), SAMPLES * num_words), replace=False))
    ]
    words = sample[np.sort(rng.choice(len(sample), num_words, replace=False))]
    for _ in range(ITERATIONS):
        label = _nearest(sample, words)
        order = np.argsort(label, kind="stable")
        filled, starts, counts = np.unique(label[order], return_index=True, return_counts=True)
        words = words.copy()
        words[filled] = np.add.reduceat(sample[order], starts, axis=0) / counts[:, None].astype(np.float32)
    return words


def _aggregated(descriptors: Float, image: NDArray[np.int64], words: Float) -> _Aggregated:
    label = _nearest(descriptors, words)
    order = np.lexsort((image, label))
    label, image = label[order], image[order]
    starts = np.flatnonzero(np.diff(label, prepend=-1) | np.diff(image, prepend=-1))
    residual = descriptors[order] - words[label]
    return _Aggregated(label[starts], image[starts], _unit(np.add.reduceat(residual, starts, axis=0)))
