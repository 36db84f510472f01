r"""This file judges posteriors over many simulated data sets, by ranks of the truth.

Simulation-based calibration. If the truth is drawn from the prior, the data given the
truth, and L draws from the posterior given the data, then the rank of the truth among
the draws is uniform on {0, ..., L}. Ranks counted in bins must stay inside a binomial
band that holds for all bins at once (Bonferroni).

Weighted draws. Let z_1..z_N be draws of any proposal q given x, with weights
w_i = p(z_i, x) / q(z_i | x), and z_0 the truth, weighed the same way. Given x, their
joint density p(z_0 | x) Π_{j > 0} q(z_j | x) is w_0 Π_{j >= 0} q(z_j | x) / p(x): of
the set {z_0, ..., z_N} the truth is element i with probability W_i = w_i / Σ w. Hence,
with U uniform on [0, 1], the level

    u = Σ_{j > 0} W_j [z_j < z_0] + U W_0

is uniform on [0, 1] for every N and every q. It finds weights that are wrong, not
proposals that are bad: those make it insensitive (W_0 close to 1), never wrong.

References:
    Andrieu, Doucet, Holenstein (2010), Particle Markov chain Monte Carlo methods,
    JRSS B 72(3), for the law of one retained particle among others.
    Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference
    algorithms with simulation-based calibration, https://arxiv.org/abs/1804.06788
"""

from collections.abc import Iterable
from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ArgumentError
from .noise import uniform

__all__ = [
    "RankHistogram",
    "all_uniform",
    "ks_statistic",
    "num_rank_bins",
    "rank_histogram",
    "sbc_ranks",
    "weighted_levels",
]


_RANKS_IN_BIN = 10


@dataclass(frozen=True, slots=True)
class RankHistogram:
    """Ranks of the truth, counted in bins, with the band that they must stay in.

    Attributes:
        counts: Number of ranks in each bin.
        low: Smallest count inside the band.
        high: Largest count inside the band.
        level: Probability that all bins are inside if the ranks are uniform, or more.
        p_value: Of the chi-squared test of uniformity.
    """

    counts: tuple[int, ...]
    low: int
    high: int
    level: float
    p_value: float

    @property
    def is_uniform(self) -> bool | None:
        """Return whether every bin is inside the band; None if there is one only.

        Example:
            >>> RankHistogram((100,), 100, 100, 0.99, 1.0).is_uniform is None
            True
        """
        if len(self.counts) == 1:
            return None
        return all(self.low <= count <= self.high for count in self.counts)


def ks_statistic(
    first: Float[Tensor, "draw column"], second: Float[Tensor, "other_draw column"]
) -> Float[Tensor, " column"]:
    """Return sup |F - G| of the two empirical distribution functions, per column."""
    a = first.T.contiguous().sort(1).values
    b = second.T.contiguous().sort(1).values
    points = torch.cat([a, b], dim=1)
    below_a = torch.searchsorted(a, points, right=True).double() / a.shape[1]
    below_b = torch.searchsorted(b, points, right=True).double() / b.shape[1]
    return (below_a - below_b).abs().amax(1)


def sbc_ranks(
    truth: Float[Tensor, " latent"],
    draws: Float[Tensor, "draw latent"],
    *,
    generator: torch.Generator,
) -> Int[Tensor, " latent"]:
    """Return the rank of the truth among posterior draws, per latent.

    A tie with the truth is broken by a fair choice among the possible ranks.

    Args:
        truth: The values that the data were simulated from.
        draws: Equally weighted posterior draws given those data.
        generator: Breaks ties.
    """
    num_below = (draws < truth).sum(0)
    num_equal = (draws == truth).sum(0)
    share = uniform(*truth.shape, generator=generator)
    return num_below + (share * (num_equal + 1)).long().clamp(max=num_equal)


def weighted_levels(
    truth: Float[Tensor, " latent"],
    truth_log_weight: Float[Tensor, ""],
    draws: Float[Tensor, "draw latent"],
    log_weights: Float[Tensor, " draw"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, " latent"]:
    """Return the level of the truth among weighted draws, per latent, from 0 to 1.

    Args:
        truth: The values that the data were simulated from.
        truth_log_weight: Its log weight under the proposal of the draws.
        draws: Draws of the proposal given those data.
        log_weights: Their log weights.
        generator: Shares out the weight of the truth, and of ties with it.
    """
    weights = torch.cat([log_weights, truth_log_weight.reshape(1)]).softmax(0)
    below = weights[:-1] @ (draws < truth).double()
    equal = weights[:-1] @ (draws == truth).double() + weights[-1]
    return below + uniform(*truth.shape, generator=generator) * equal


def num_rank_bins(num_data_sets: int, num_draws: int) -> int:
    """Return the most bins that share out the ranks and expect 10 ranks or more each.

    One bin, which says nothing, where there are too few data sets for two.

    Args:
        num_data_sets: Number of ranks.
        num_draws: Number of posterior draws that each truth is ranked among.

    Example:
        >>> num_rank_bins(1000, 99), num_rank_bins(100, 99), num_rank_bins(19, 99)
        (20, 10, 1)
    """
    return next(
        bins
        for bins in (20, 10, 5, 4, 2, 1)
        if bins == 1
        or (num_data_sets >= _RANKS_IN_BIN * bins and (num_draws + 1) % bins == 0)
    )


def all_uniform(histograms: Iterable[RankHistogram]) -> bool | None:
    """Return whether all histograms stay inside; None where that cannot be said.

    One that leaves its band settles it; else one that says nothing leaves it open.
    """
    judged = [histogram.is_uniform for histogram in histograms]
    return None if None in judged and False not in judged else all(judged)


def rank_histogram(
    ranks: Int[Tensor, " data_set"],
    num_draws: int,
    *,
    num_bins: int = 20,
    level: float = 0.99,
    num_histograms: int = 1,
) -> RankHistogram:
    """Return the ranks of one latent in bins, with the band for uniform ranks.

    Args:
        ranks: Ranks between 0 and `num_draws`, one per data set.
        num_draws: Number of posterior draws that the truth was ranked among.
        num_bins: Number of bins; must divide `num_draws + 1`.
        level: Probability that all bins of all histograms stay inside the band.
        num_histograms: Number of histograms judged together: one per latent, say.

    Raises:
        ArgumentError: If the bins are not equally wide, or a rank is out of range.
    """
    if (num_draws + 1) % num_bins:
        raise ArgumentError.at(
            "rank histogram",
            "ranks are not shared out evenly",
            f"a divisor of {num_draws + 1}",
            f"{num_bins} bins",
        )
    if bool(((ranks < 0) | (ranks > num_draws)).any()):
        raise ArgumentError.at(
            "rank histogram",
            "a rank is out of range",
            f"0 to {num_draws}",
            f"{int(ranks.min())} to {int(ranks.max())}",
        )
    width = (num_draws + 1) // num_bins
    counts = torch.bincount(ranks // width, minlength=num_bins).tolist()
    outside = (1.0 - level) / (num_bins * num_histograms)
    law = scipy.stats.binom(ranks.shape[0], 1.0 / num_bins)
    return RankHistogram(
        tuple(counts),
        int(law.ppf(outside / 2.0)),
        int(law.isf(outside / 2.0)),
        level,
        float(scipy.stats.chisquare(counts).pvalue),
    )
