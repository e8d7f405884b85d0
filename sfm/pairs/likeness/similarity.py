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

from sfm.errors import BadOption
from sfm.system import memory

NUM_WORDS = 1024
PER_WORD = 20  # descriptors of the images, at least; fewer images have fewer words
SAMPLES = 40  # descriptors of each word that the vocabulary is made from
ITERATIONS = 10  # of k-means
ALPHA = 3.0  # of the selective kernel, equation 16
_BLOCK = 16_384  # descriptors that are compared with the vocabulary at once
_ROWS = 1024  # of the result that are computed at once

Float = NDArray[np.float32]
Descriptors = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class _Aggregated:
    """Unit vectors (V, C) f32, sorted by word and then by image, with their words and images (V,) i64."""

    word: NDArray[np.int64]
    image: NDArray[np.int64]
    vector: Float


def similarities(descriptors: Sequence[Descriptors], *, seed: int = 0) -> Float:
    """(N, N) f32 from 0 to 1, symmetric, 1 on the diagonal; 0 for an image without descriptors.

    descriptors: (T, C) of each image, T may differ and be 0. Besides the result, which takes 4 N^2 bytes, memory grows
    with N: of each image a vector for each of its words. Time is N^2 times the share of words that two images have in
    common. Raises BadOption where the result does not fit the memory that is free.
    """
    num = len(descriptors)
    check_fits(num)
    counts = [len(own) for own in descriptors]
    if sum(counts) < 2 * PER_WORD:
        return np.eye(num, dtype=np.float32)
    mean = _mean(descriptors)
    words = _vocabulary(descriptors, mean, min(NUM_WORDS, sum(counts) // PER_WORD), seed)
    own = _aggregated(descriptors, mean, words)
    total = np.zeros((num, num), np.float32)
    bounds = np.flatnonzero(np.diff(own.word, prepend=-1, append=len(words)))
    for start, stop in pairwise(bounds.tolist()):
        vector, rows = own.vector[start:stop], own.image[start:stop]
        rarity = np.float32(np.log1p(num / len(rows)))  # a word that most images have says little
        for begin in range(0, len(rows), _ROWS):
            part = slice(begin, begin + _ROWS)
            total[np.ix_(rows[part], rows)] += rarity * np.maximum(vector[part] @ vector.T, 0) ** ALPHA
    norm = np.sqrt(np.maximum(np.diag(total), 1e-9))
    for begin in range(0, num, _ROWS):  # in place: a second matrix of this size may not fit
        part = slice(begin, begin + _ROWS)
        total[part] /= norm[part, None] * norm[None]
    _make_symmetric(total)
    np.fill_diagonal(total, 1)
    return total


def check_fits(num: int) -> None:
    """BadOption where the likeness of so many images with each other does not fit the memory that is free."""
    needed, there = 4 * num * num, memory.free()
    if needed > there:
        raise BadOption(
            f"--pairs: the likeness of {num:,} images with each other takes {needed / 1e9:.1f} GB, "
            f"{there / 1e9:.1f} GB are free; give --pairs gps, or a file of pairs"
        )


def _make_symmetric(matrix: Float) -> None:
    """The mean with the transpose, in place."""
    for begin in range(0, len(matrix), _ROWS):
        for other in range(begin, len(matrix), _ROWS):
            upper = matrix[begin : begin + _ROWS, other : other + _ROWS]
            lower = matrix[other : other + _ROWS, begin : begin + _ROWS]
            mean = (upper + lower.T) / np.float32(2)
            upper[...] = mean
            lower[...] = mean.T


def _mean(descriptors: Sequence[Descriptors]) -> Float:
    """(C,) f32."""
    sums = [own.sum(axis=0, dtype=np.float64) for own in descriptors if len(own)]
    found: Float = (np.sum(sums, axis=0) / sum(len(own) for own in descriptors)).astype(np.float32)
    return found


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


def _vocabulary(descriptors: Sequence[Descriptors], mean: Float, num_words: int, seed: int) -> Float:
    """(W, C) f32 centres by k-means over a sample of all descriptors."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum([len(own) for own in descriptors])
    number = min(int(ends[-1]), SAMPLES * num_words)
    chosen = np.sort(rng.choice(int(ends[-1]), number, replace=False))
    image = np.searchsorted(ends, chosen, side="right")
    starts = np.concatenate([[0], ends])
    parts = [descriptors[i][chosen[image == i] - starts[i]] for i in np.unique(image).tolist()]
    sample = _unit(np.concatenate(parts).astype(np.float32) - mean)
    words = sample[np.sort(rng.choice(len(sample), num_words, replace=False))]
    for _ in range(ITERATIONS):
        label = _nearest(sample, words)
        order = np.argsort(label, kind="stable")
        filled, first, counts = np.unique(label[order], return_index=True, return_counts=True)
        words = words.copy()
        words[filled] = np.add.reduceat(sample[order], first, axis=0) / counts[:, None].astype(np.float32)
    return words


def _aggregated(descriptors: Sequence[Descriptors], mean: Float, words: Float) -> _Aggregated:
    """Of each image a vector for each word that it has, sorted by word and then by image."""
    parts = [_of_image(i, own, mean, words) for i, own in enumerate(descriptors) if len(own)]
    word, image = (np.concatenate([getattr(part, name) for part in parts]) for name in ("word", "image"))
    order = np.lexsort((image, word))
    vector = np.concatenate([part.vector for part in parts])
    parts.clear()
    return _Aggregated(word[order], image[order], vector[order])


def _of_image(image: int, descriptors: Descriptors, mean: Float, words: Float) -> _Aggregated:
    own = _unit(np.asarray(descriptors, np.float32) - mean)
    label = _nearest(own, words)
    order = np.argsort(label, kind="stable")
    label = label[order]
    starts = np.flatnonzero(np.diff(label, prepend=-1))
    residual = own[order] - words[label]
    vector = _unit(np.add.reduceat(residual, starts, axis=0))
    return _Aggregated(label[starts], np.full(len(starts), image, np.int64), vector)
