"""Thresholds of sub-pixel refinement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefinementParams:
    """Limits of sub-pixel refinement. Values without a source were chosen on the scenes of docs/accuracy.md.

    A sigma is the standard deviation of a match's position (MappingInput.sigmas: of LoFTR's a pixel of the image that
    its network saw, of SIFT's one of the image itself), an aligned px a pixel of the images that patches are cut from
    (`--align-size`).

    min_correlation: zero-mean normalised; patches of one place that agree less are of different things, or one of them
        is hidden. Lower keeps wrong observations, higher loses views from the side.
    strange_share: of an image's observations; one of which more differ from their references looks different as a whole
        (at night, in another season) and keeps its matches' positions.
    certain_correlation, certain_sigma: what an observation needs that no match speaks for: agreement, and the largest
        standard deviation in its weakest direction, sigmas.
    proposing_round: the round, counted from 0, that proposes points to further images; the second, when poses are good.
    match_sigma: standard deviation, sigmas, of an observation of which the pixels say nothing: a matcher's errors
        have long tails, so this is some times their median.
    alignment_sigma: standard deviation, aligned px; no position is better, whatever the pixels say.
    reference_sigma: standard deviation of a track's reference, aligned px.
    max_whitened: standard deviations; an observation that is further off the model is wrong.
    max_error: sigmas; likewise, in the first round and in later ones, once it was aligned.
    min_angle: degrees between the rays of a point, COLMAP's own limit (filter_min_tri_angle).
    rough_tolerance: of the cost, of the bundle adjustment that only shows what does not fit.
    settled, settled_share: no round follows one that moved fewer than this share of the observations by more than so
        many sigmas.
    """

    min_correlation: float = 0.7
    strange_share: float = 0.5
    certain_correlation: float = 0.8
    certain_sigma: float = 0.5
    proposing_round: int = 1
    match_sigma: float = 2.0
    alignment_sigma: float = 0.1
    reference_sigma: float = 0.2
    max_whitened: float = 4.0
    max_error: tuple[float, ...] = (2.0, 1.0)
    min_angle: float = 1.5
    rough_tolerance: float = 1e-3
    settled: float = 0.1
    settled_share: float = 0.25

    def max_error_of(self, round_number: int) -> float:
        """The limit of a round, counted from 0; the last one holds for all that follow."""
        return self.max_error[min(round_number, len(self.max_error) - 1)]
