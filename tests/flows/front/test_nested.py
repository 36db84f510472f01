"""Tests of answers by latents that are Gaussian but for what they say."""

import pytest
import scipy.stats

import flows
from flows.model.model import Model
from tests.flows.nested_laplace.programs import (
    COUNTS,
    OUTLIERS,
    RETURNS,
    by_quadrature,
    counts,
    outliers,
    returns,
)

WALK = """
(defn step [t x q s y]
  (let [x (sample (normal x q))]
    (observe (student-t-loc-scale 4 x s) (get y t))
    x))
(let [q (sample (half-normal 1)) s (sample (half-normal 1)) x0 (sample (normal 0 1))
      y [0.024 -0.56 -1.186 -0.955 -1.193 -0.375 -1.612 -1.418 -2.852 -2.738 -2.734
         -2.661 -2.912 -3.274 -3.316 -2.426 -4.227 -3.238 -3.196 -3.272 -1.49 -1.285
         -1.498 -1.315 -1.911]]
  [q s x0 (loop 25 x0 step q s y)])
"""
WALK_EVIDENCE = -30.5805
WALK_MEANS = 0.5889, 0.2859, -0.1093, -1.7912
WALK_SDS = 0.1529, 0.1301, 0.5638
"""By forward and backward sums over 601 levels and 54 x 54 scales."""

CASES = [
    (COUNTS, counts, scipy.stats.gamma(2, scale=0.5), (0.0, 8.0), 6),
    (OUTLIERS, outliers, scipy.stats.halfnorm(), (0.0, 5.0), 5),
    pytest.param(
        RETURNS,
        returns,
        scipy.stats.gamma(2, scale=0.25),
        (0.03, 4.0),
        -1,
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("program", "given", "prior", "ends", "place"), CASES)
def test_groups_and_chains_are_answered_as_by_quadrature(
    program, given, prior, ends, place
):
    found = flows.infer(Model.from_program(program))
    evidence, *means = by_quadrature(given, prior, *ends)
    assert found.is_trusted
    error = found.log_evidence_standard_error
    assert error < 0.03
    assert found.log_evidence == pytest.approx(evidence, abs=4.0 * error)
    figures = list(found.latents.values())
    for own, wanted in zip((figures[0], figures[place]), means, strict=True):
        assert own.mean == pytest.approx(wanted, abs=0.08 * own.sd)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_walk_seen_through_heavy_noise_is_right(seed):
    found = flows.infer(Model.from_program(WALK), seed=seed)
    assert found.is_trusted
    assert "around the modes given scales" in found.why
    assert found.log_evidence == pytest.approx(WALK_EVIDENCE, abs=0.05)
    for own, wanted in zip(found.returned, WALK_MEANS, strict=True):
        assert own.mean == pytest.approx(wanted, abs=0.08 * own.sd)
    for own, wanted in zip(found.returned[:3], WALK_SDS, strict=True):
        assert own.sd == pytest.approx(wanted, rel=0.06)
