from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sfm.evaluation.comparison import Comparison, Side
from sfm.evaluation.model import CentreErrors, Evaluation, ModelStatistics
from sfm.report.ranking import rank

TITLES = ("LoFTR", "SIFT", "hloc")


def figures(registered: int = 12, points: int = 100, length: float = 4.0, error: float = 0.5) -> ModelStatistics:
    return ModelStatistics(registered, points, 400, length, error)


def truth(statistics: ModelStatistics, auc: float, median: float = 0.1, at_1: float | None = None) -> Evaluation:
    areas = {1.0: auc if at_1 is None else at_1, 3.0: auc, 5.0: auc}
    return Evaluation(statistics.registered, 12, (), areas, 0.1, CentreErrors(median, 1.0, 10.0, "x"), statistics)


def of(*sides: tuple[ModelStatistics, Evaluation | None]) -> Comparison:
    own = tuple(Side(Path(str(k)), statistics, (), evaluation) for k, (statistics, evaluation) in enumerate(sides))
    return Comparison(own, 1, (None,) * (len(own) - 1))


def test_ground_truth_decides_by_the_widest_threshold_that_tells():
    few = figures(9)
    found = rank(of((figures(), truth(figures(), 0.71)), (few, truth(few, 0.93))), TITLES[:2], (False, False))
    assert found.best == 1
    assert found.sentence == (
        "SIFT is better: against ground truth its pose AUC at 5° is 0.930, against 0.710 of LoFTR; it registered 9 of "
        "12 images, LoFTR 12."
    )
    close = of((figures(), truth(figures(), 0.99, at_1=0.95)), (figures(), truth(figures(), 0.995, at_1=0.8)))
    assert rank(close, TITLES[:2], (False, False)).sentence == (
        "LoFTR is better: against ground truth its pose AUC at 1° is 0.950, against 0.800 of SIFT."
    )


def test_equal_auc_leaves_it_to_the_centres_or_to_nobody():
    near = of((figures(), truth(figures(), 0.99, median=0.2)), (figures(), truth(figures(), 0.99, median=0.1)))
    found = rank(near, TITLES[:2], (False, False))
    assert (found.best, "slightly better" in found.sentence, "1.00%" in found.sentence) == (1, True, True)
    equal = of((figures(), truth(figures(), 0.99)), (figures(), truth(figures(), 0.99)))
    assert rank(equal, TITLES[:2], (False, False)).best is None
    assert rank(equal, TITLES[:2], (False, False)).sentence.startswith("Equally good")


def test_without_truth_a_model_that_is_probably_bad_comes_last():
    found = rank(of((figures(12), None), (figures(9), None)), TITLES[:2], (True, False))
    assert found.best == 1
    assert found.sentence == "SIFT is the one to use: checks call LoFTR probably bad."


def test_where_only_one_refused_pairs_of_places_that_look_alike_the_user_decides():
    sides = of((figures(12), None), (figures(22), None))
    found = rank(sides, TITLES[:2], (False, False), (82, 0))
    assert found.best is None
    assert found.sentence == (
        "LoFTR refused 82 pairs of places that look alike, SIFT did not: look whether these are one place."
    )
    assert rank(sides, TITLES[:2], (False, False), (82, 3)).best == 1
    assert rank(sides, TITLES[:2], (False, False), (0, 0)).best == 1


def test_without_truth_registered_images_count_first():
    found = rank(of((figures(12), None), (figures(9, points=900), None)), TITLES[:2], (False, False))
    assert (found.best, found.sentence) == (0, "LoFTR has more of the images: 12, SIFT 9.")


@pytest.mark.parametrize(
    ("other", "best", "start"),
    [
        (figures(points=50, length=3.0, error=0.6), 0, "LoFTR looks better: 3D points 100 (LoFTR) against 50;"),
        (
            figures(points=50, length=6.0, error=0.4),
            None,
            "Neither is best in everything: 3D points 100 (LoFTR) against",
        ),
        (figures(), None, "No difference: both registered 12 images."),
    ],
)
def test_the_other_figures_count_together(other: ModelStatistics, best: int | None, start: str):
    found = rank(of((figures(), None), (other, None)), TITLES[:2], (False, False))
    assert found.best == best
    assert found.sentence.startswith(start)


def test_three():
    sides = [figures(), figures(points=50, error=0.4), replace(figures(points=20), registered=11)]
    found = rank(of(*((side, None) for side in sides)), TITLES, (False, False, False))
    assert found.best is None
    assert found.sentence == (
        "Neither is best in everything: 3D points 100 (LoFTR) against 50; reprojection error 0.400 px (SIFT) against "
        "0.500; 2 registered 12 images."
    ).replace("; 2 registered", "; both registered")
