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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sfm.options import TrackOptions
from sfm.tracks.links import LinkReader, Links, Nodes, Pairs
from sfm.tracks.thinning import Room, thin
from sfm.types import Float32, Float64, Grid, ImagePair, Int64, KeypointMatches, Keypoints, Tracks

NUM_RINGS = 3  # how far from its reference an observation may be placed
MAX_BITS = 1024  # of a track's set of images; of more images some share a bit, and a few tracks stay apart for it
ROWS_AT_ONCE = 1 << 18  # whose sets of images are compared
Ends = NDArray[np.integer]  # nodes or tracks
UNPLACED = 1.25  # observations of tracks, over those that can be placed, with some to spare


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
    pairs: Pairs,
    grids: Mapping[str, Grid | None],
    options: TrackOptions,
    *,
    room: Room = Room(),  # noqa: B008
    other_grids: Sequence[Mapping[str, Grid | None]] = (),
) -> TrackSet:
    """Keypoints, tracks and keypoint matches from verified matches. Pure; deterministic in its arguments.

    pairs: read one by one, twice. room: what is beyond it is left out (sfm.tracks.thinning): matches of the weakest
    keypoints, and the shortest tracks; of many already before they are placed. grids: of the matcher; other_grids: of
    those beside it, in the order of Matches.finder.
    """
    reader, max_observations = LinkReader(names, pairs, (grids, *other_grids), options), room.observations
    nodes, edges = reader.edges(room.edges)
    label = merge_tracks(edges.ends, edges.score, nodes.image)
    inside = label[edges.ends[:, 0]] == label[edges.ends[:, 1]]
    left_out = np.zeros(len(label), bool)
    if max_observations is not None and room.links is not None and np.count_nonzero(inside) > room.links:
        strength = np.bincount(edges.ends[inside].ravel(), np.repeat(edges.score[inside], 2), len(label))
        left_out = _surplus(nodes, label, strength.astype(np.float64), int(UNPLACED * max_observations))
        label[left_out] = -1
    xy, node_score, placed = place_observations(reader.links(nodes, label), label, nodes)
    size = np.bincount(label[placed], minlength=len(label))
    placed &= size[label] >= 2
    num_observations = int(placed.sum()) + int(left_out.sum())
    if max_observations is not None and placed.sum() > max_observations:
        rows = np.flatnonzero(placed)
        placed[rows] = thin(label[rows], nodes.image[rows], xy[rows], node_score[rows], max_observations)
    kept = inside & placed[edges.ends].all(axis=1) & (label[edges.ends[:, 0]] >= 0)
    keypoints, keypoint_of = _keypoints(nodes, xy, node_score, placed)
    found = _pair_matches(
        list(reader.read.values()), keypoint_of[edges.ends[kept]], edges.score[kept], edges.pair_idx[kept]
    )
    return TrackSet(keypoints, _tracks(nodes, label, placed, keypoint_of), found, num_observations - int(placed.sum()))


def _surplus(nodes: Nodes, label: Int64, strength: Float64, limit: int) -> NDArray[np.bool_]:
    """(N,) nodes of tracks that are left out so that the others have at most `limit`."""
    rows = np.flatnonzero(np.bincount(label, minlength=len(label))[label] >= 2)
    gone = np.zeros(len(label), bool)
    gone[rows] = ~thin(label[rows], nodes.image[rows], nodes.xy[rows].astype(np.float64), strength[rows], limit)
    return gone


def _keypoints(
    nodes: Nodes, xy: Float64, score: Float64, placed: NDArray[np.bool_]
) -> tuple[tuple[Keypoints, ...], Int64]:
    """Keypoints of each image, and of each node its number among them, -1 where it is none."""
    keypoint_of = np.full(len(placed), -1)
    keypoints, offsets, finder = [], nodes.offsets, nodes.finder
    for begin, end in pairwise(offsets.tolist()):
        own = begin + np.flatnonzero(placed[begin:end])
        keypoint_of[own] = np.arange(len(own))
        keypoints.append(Keypoints(xy[own].astype(np.float32), score[own].astype(np.float32), finder[own]))
    return tuple(keypoints), keypoint_of


def _tracks(nodes: Nodes, label: Int64, placed: NDArray[np.bool_], keypoint_of: Int64) -> Tracks:
    rows = np.flatnonzero(placed)
    rows = rows[np.lexsort((nodes.image[rows], label[rows]))]
    return Tracks(
        np.concatenate([[0], np.cumsum(np.unique(label[rows], return_counts=True)[1])]).astype(np.int64),
        nodes.image[rows].astype(np.uint32),
        keypoint_of[rows].astype(np.uint32),
    )


def _pair_matches(
    pairs: Sequence[ImagePair], indices: Int64, score: Float64, pair_idx: NDArray[np.integer]
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


def merge_tracks(edges: NDArray[np.integer], score: Float64, node_image: NDArray[np.integer]) -> Int64:
    """Track label (N,) of each node, the smallest node number in the track; no image twice in a track.

    Links are taken strongest first (ties: the earlier row) and refused where the merged track would
    have two nodes in one image. edges: (E, 2), score: (E,), node_image: (N,). Rounds: all links that
    are the strongest of both their tracks are taken at once, then those that have become impossible
    are struck out (a refused link stays refused, for tracks only grow).
    """
    order = np.argsort(-score, kind="stable")
    label = np.arange(len(node_image))
    images = _image_sets(node_image)
    track0, track1 = edges[order, 0], edges[order, 1]
    del order
    track0, track1 = _without(node_image[track0] == node_image[track1], track0, track1)
    while len(track0):
        winners = _strongest(track0, track1, len(label))
        low = np.minimum(track0[winners], track1[winners])
        high = np.maximum(track0[winners], track1[winners])
        into = np.arange(len(label), dtype=edges.dtype)
        into[high] = low
        images[low] |= images[high]
        grown = np.zeros(len(label), bool)
        grown[low] = True
        label, track0, track1 = into[label].astype(np.int64), into[track0], into[track1]
        rows = np.flatnonzero(grown[track0] | grown[track1])
        struck = np.zeros(len(track0), bool)
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            own = rows[begin : begin + ROWS_AT_ONCE]
            struck[own] = (images[track0[own]] & images[track1[own]]).any(axis=1)  # also links within a track
        track0, track1 = _without(struck, track0, track1)
    return label


def _without(struck: NDArray[np.bool_], track0: Ends, track1: Ends) -> tuple[Ends, Ends]:
    return track0[~struck], track1[~struck]


def _image_sets(node_image: NDArray[np.integer]) -> NDArray[np.uint64]:
    """(N, words) bit sets that hold the node's own image."""
    bit = node_image % MAX_BITS
    sets = np.zeros((len(node_image), int(bit.max(initial=0)) // 64 + 1), np.uint64)
    sets[np.arange(len(node_image)), bit // 64] = np.uint64(1) << (bit % 64).astype(np.uint64)
    return sets


def _strongest(track0: Ends, track1: Ends, num_tracks: int) -> Int64:
    """Rows of the links (E,), sorted strongest first, that are the strongest of both their tracks."""
    rank = np.arange(len(track0), dtype=np.int32)
    best0, best1 = (np.full(num_tracks, len(rank), np.int32) for _ in range(2))
    best0[track0[::-1]] = rank[::-1]  # the last write, which is the strongest, stays
    best1[track1[::-1]] = rank[::-1]
    best = np.minimum(best0, best1)
    return np.flatnonzero((best[track0] == rank) & (best[track1] == rank))


def place_observations(links: Links, label: Int64, nodes: Nodes) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Consistent position (N, 2) px, score (N,) and whether it could be placed (N,), of each node in its track.

    The reference is the node with most confidence in links within its track, at the position that its
    rows use most. A node linked to placed ones goes to the mean over these rows of
    x + (p_node - p_placed), weighted by confidence and by how near the row's own start p_placed is
    to the placed position x: a row that starts there says exactly where the point is seen. links: within tracks.
    """
    start, end = np.concatenate([links.node0, links.node1]), np.concatenate([links.node1, links.node0])
    p_start, p_end = np.concatenate([links.points0, links.points1]), np.concatenate([links.points1, links.points0])
    confidence, sigma = np.tile(links.confidence, 2), nodes.sigma_px
    del links  # of a large set half a gigabyte, which nobody else holds
    score = np.bincount(start, weights=confidence, minlength=len(label)).astype(np.float64)
    placed = np.zeros(len(label), bool)
    placed[_first_of_each(label, score)] = True
    placed &= score > 0
    rows = np.flatnonzero(placed[start])
    xy = _usual_position(start[rows], p_start[rows], confidence[rows], len(label))
    for _ in range(NUM_RINGS):
        rows = np.flatnonzero(placed[start] & ~placed[end])
        if len(rows) == 0:
            break
        s, e = start[rows], end[rows]
        offset2 = ((p_start[rows] - xy[s]) ** 2).sum(axis=1) / sigma[s] ** 2
        weight = confidence[rows] * np.exp(-0.5 * np.minimum(offset2, 60.0)) + 1e-30
        xy[e] = _weighted_mean(e, xy[s] + p_end[rows].astype(np.float64) - p_start[rows], weight, len(label))[e]
        placed[e] = True
    return xy, score, placed


def _first_of_each(label: NDArray[np.integer], score: Float64) -> Int64:
    """Of each label the node with the largest score (ties: the smallest node)."""
    order = np.lexsort((-score, label))
    first = np.ones(len(order), bool)
    first[1:] = label[order][1:] != label[order][:-1]
    return order[first]


def _weighted_mean(group: Ends, values: Float64, weight: Float64, num: int) -> Float64:
    total = np.bincount(group, weights=weight, minlength=num)
    sums = [np.bincount(group, weights=weight * column, minlength=num) for column in values.T]
    mean: Float64 = np.stack(sums, axis=1) / np.where(total > 0, total, 1.0)[:, None]
    return mean


def _usual_position(node: Ends, points: Float32, confidence: Float32, num: int) -> Float64:
    """Position (num, 2) that rows of each node use most, weighted by confidence; exact positions, not a mean."""
    xy = np.zeros((num, 2))
    if len(node) == 0:
        return xy
    order = np.lexsort((points[:, 1], points[:, 0], node))
    node, points, confidence = node[order], points[order], confidence[order]
    new = np.ones(len(node), bool)
    new[1:] = (node[1:] != node[:-1]) | (points[1:] != points[:-1]).any(axis=1)
    votes = np.add.reduceat(confidence.astype(np.float64), np.flatnonzero(new))
    node, points = node[new], points[new]
    best = _first_of_each(node, votes)
    xy[node[best]] = points[best]
    return xy
