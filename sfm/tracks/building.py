"""From verified matches of pairs to keypoints of images and tracks over them.

A keypoint is (image, cell): a cell of the matcher's own coarse grid, or a detector's keypoint, is
the same in every pair, so tracks grow long (He et al., DetectorFreeSfM, CVPR 2024). Three steps,
none with a Python loop over matches or tracks:

1. `merge_tracks`: Kruskal's order, strongest link first, and no merge that would give a track two
   observations in one image. Done in rounds: a link that is the strongest of both its tracks can be
   decided at once, whatever happens elsewhere, so the result equals the one-by-one order.
2. `place_observations`: a cell is 8 network pixels wide, yet rows of matches are sub-pixel. One
   reference observation a track keeps its position; the others go where the rows that link them to
   it locate this very point (then on through placed neighbours, a few rings). So a track's
   positions agree with each other, and the reference's own quantisation costs nothing.
3. `build_tracks`: keypoints, tracks and keypoint matches of what was placed.

Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfm.options import TrackOptions
from sfm.tracks.links import Links, collect_links, merge_links
from sfm.tracks.thinning import thin
from sfm.types import (
    Float64,
    Grid,
    ImagePair,
    Int64,
    KeypointMatches,
    Keypoints,
    Matches,
    Tracks,
    TwoViewGeometry,
)

NUM_RINGS = 3  # how far from its reference an observation may be placed


@dataclass(frozen=True, slots=True, eq=False)
class TrackSet:
    """What the stage makes: keypoints in image order, tracks over them, and matches of each verified pair.

    num_left_out: observations that there was no room for.
    """

    keypoints: tuple[Keypoints, ...]
    tracks: Tracks
    matches: tuple[KeypointMatches, ...]
    num_left_out: int = 0


def build_tracks(
    names: Sequence[str],
    pairs: Sequence[tuple[TwoViewGeometry, Matches]],
    grids: Mapping[str, Grid | None],
    options: TrackOptions,
    *,
    max_observations: int | None = None,
) -> TrackSet:
    """Keypoints, tracks and keypoint matches from verified matches. Pure; deterministic in its arguments.

    max_observations: tracks that would make more are left out (sfm.tracks.thinning).
    """
    links = collect_links(names, pairs, grids, options)
    edges, score, pair_idx = merge_links(links)
    label = merge_tracks(edges, score, links.node_image)
    xy, node_score, placed = place_observations(links, label)
    size = np.bincount(label[placed], minlength=len(label))
    placed &= size[label] >= 2
    num_observations = int(placed.sum())
    if max_observations is not None and num_observations > max_observations:
        nodes = np.flatnonzero(placed)
        placed[nodes] = thin(label[nodes], links.node_image[nodes], xy[nodes], node_score[nodes], max_observations)
    keypoint_of = np.full(len(label), -1)
    keypoints = []
    for i in range(len(names)):
        nodes = np.flatnonzero(placed & (links.node_image == i))
        keypoint_of[nodes] = np.arange(len(nodes))
        keypoints.append(Keypoints(xy[nodes].astype(np.float32), node_score[nodes].astype(np.float32)))
    nodes = np.flatnonzero(placed)
    nodes = nodes[np.lexsort((links.node_image[nodes], label[nodes]))]
    tracks = Tracks(
        np.concatenate([[0], np.cumsum(np.unique(label[nodes], return_counts=True)[1])]).astype(np.int64),
        links.node_image[nodes].astype(np.uint32),
        keypoint_of[nodes].astype(np.uint32),
    )
    kept = (label[edges[:, 0]] == label[edges[:, 1]]) & placed[edges].all(axis=1)
    pair_names = [geometry.pair for geometry, _ in pairs]
    found = _pair_matches(pair_names, keypoint_of[edges[kept]], score[kept], pair_idx[kept])
    return TrackSet(tuple(keypoints), tracks, found, num_observations - len(nodes))


def _pair_matches(
    pairs: Sequence[ImagePair], indices: Int64, score: Float64, pair_idx: Int64
) -> tuple[KeypointMatches, ...]:
    """Columns over all pairs (E, 2), (E,), (E,) to one value a pair, in order.

    Only direct links: matches through third images gave the same models more slowly.
    """
    order = np.argsort(pair_idx, kind="stable")
    bounds = np.searchsorted(pair_idx[order], np.arange(len(pairs) + 1))
    rows = [order[bounds[i] : bounds[i + 1]] for i in range(len(pairs))]
    return tuple(
        KeypointMatches(pair, indices[r].astype(np.uint32), score[r].astype(np.float32))
        for pair, r in zip(pairs, rows, strict=True)
    )


def merge_tracks(edges: Int64, score: Float64, node_image: Int64) -> Int64:
    """Track label (N,) of each node, the smallest node number in the track; no image twice in a track.

    Links are taken strongest first (ties: the earlier row) and refused where the merged track would
    have two nodes in one image. edges: (E, 2), score: (E,), node_image: (N,). Rounds: all links that
    are the strongest of both their tracks are taken at once, then those that have become impossible
    are struck out (a refused link stays refused, for tracks only grow).
    """
    order = np.argsort(-score, kind="stable")
    label = np.arange(len(node_image))
    images = _image_sets(node_image)
    track0, track1 = edges[order].T
    track0, track1 = _without(node_image[track0] == node_image[track1], track0, track1)
    while len(track0):
        winners = _strongest(track0, track1, len(label))
        low = np.minimum(track0[winners], track1[winners])
        high = np.maximum(track0[winners], track1[winners])
        into = np.arange(len(label))
        into[high] = low
        images[low] |= images[high]
        grown = np.zeros(len(label), bool)
        grown[low] = True
        label, track0, track1 = into[label], into[track0], into[track1]
        rows = np.flatnonzero(grown[track0] | grown[track1])
        struck = np.zeros(len(track0), bool)
        struck[rows] = (images[track0[rows]] & images[track1[rows]]).any(axis=1)  # also links within a track
        track0, track1 = _without(struck, track0, track1)
    return label


def _without(struck: NDArray[np.bool_], track0: Int64, track1: Int64) -> tuple[Int64, Int64]:
    return track0[~struck], track1[~struck]


def _image_sets(node_image: Int64) -> NDArray[np.uint64]:
    """(N, words) bit sets that hold the node's own image."""
    words = int(node_image.max(initial=0)) // 64 + 1
    sets = np.zeros((len(node_image), words), np.uint64)
    sets[np.arange(len(node_image)), node_image // 64] = np.uint64(1) << (node_image % 64).astype(np.uint64)
    return sets


def _strongest(track0: Int64, track1: Int64, num_tracks: int) -> Int64:
    """Rows of the links (E,), sorted strongest first, that are the strongest of both their tracks."""
    rank = np.arange(len(track0))
    best0, best1 = np.full(num_tracks, len(rank)), np.full(num_tracks, len(rank))
    best0[track0[::-1]] = rank[::-1]  # the last write, which is the strongest, stays
    best1[track1[::-1]] = rank[::-1]
    best = np.minimum(best0, best1)
    return np.flatnonzero((best[track0] == rank) & (best[track1] == rank))


def place_observations(links: Links, label: Int64) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Consistent position (N, 2) px, score (N,) and whether it could be placed (N,), of each node in its track.

    The reference is the node with most confidence in links within its track, at the position that its
    rows use most. A node linked to placed ones goes to the mean over these rows of
    x + (p_node - p_placed), weighted by confidence and by how near the row's own start p_placed is
    to the placed position x: a row that starts there says exactly where the point is seen.
    """
    inside = label[links.node0] == label[links.node1]
    start = np.concatenate([links.node0[inside], links.node1[inside]])
    end = np.concatenate([links.node1[inside], links.node0[inside]])
    p_start = np.concatenate([links.points0[inside], links.points1[inside]])
    p_end = np.concatenate([links.points1[inside], links.points0[inside]])
    confidence = np.tile(links.confidence[inside], 2)
    score = np.bincount(start, weights=confidence, minlength=len(label)).astype(np.float64)
    xy = _usual_position(start, p_start, confidence, len(label))
    placed = np.zeros(len(label), bool)
    placed[_first_of_each(label, score)] = True
    placed &= score > 0
    for _ in range(NUM_RINGS):
        rows = np.flatnonzero(placed[start] & ~placed[end])
        if len(rows) == 0:
            break
        s, e = start[rows], end[rows]
        offset2 = ((p_start[rows] - xy[s]) ** 2).sum(axis=1) / links.node_sigma[s] ** 2
        weight = confidence[rows] * np.exp(-0.5 * np.minimum(offset2, 60.0)) + 1e-30
        xy[e] = _weighted_mean(e, xy[s] + p_end[rows] - p_start[rows], weight, len(label))[e]
        placed[e] = True
    return xy, score, placed


def _first_of_each(label: Int64, score: Float64) -> Int64:
    """Of each label the node with the largest score (ties: the smallest node)."""
    order = np.lexsort((-score, label))
    first = np.ones(len(order), bool)
    first[1:] = label[order][1:] != label[order][:-1]
    return order[first]


def _weighted_mean(group: Int64, values: Float64, weight: Float64, num: int) -> Float64:
    total = np.bincount(group, weights=weight, minlength=num)
    sums = [np.bincount(group, weights=weight * column, minlength=num) for column in values.T]
    mean: Float64 = np.stack(sums, axis=1) / np.where(total > 0, total, 1.0)[:, None]
    return mean


def _usual_position(node: Int64, points: Float64, confidence: Float64, num: int) -> Float64:
    """Position (num, 2) that rows of each node use most, weighted by confidence; exact positions, not a mean."""
    xy = np.zeros((num, 2))
    if len(node) == 0:
        return xy
    order = np.lexsort((points[:, 1], points[:, 0], node))
    node, points, confidence = node[order], points[order], confidence[order]
    new = np.ones(len(node), bool)
    new[1:] = (node[1:] != node[:-1]) | (points[1:] != points[:-1]).any(axis=1)
    votes = np.add.reduceat(confidence, np.flatnonzero(new))
    node, points = node[new], points[new]
    best = _first_of_each(node, votes)
    xy[node[best]] = points[best]
    return xy
