"""This file checks that an evidence is unbiased, by many repetitions."""

import math

import numpy as np


def check_unbiased(repetition, exact, *, largest_error, least_resampled):
    """Check that the mean of Z / exact over 1,000 runs is 1 within 4 errors.

    Args:
        repetition: Returns the reports of the run with a seed.
        exact: The exact log evidence.
        largest_error: Of the mean; above it the check says nothing.
        least_resampled: How often runs resample together, at least.
    """
    ratios, num_resampled = [], 0
    for seed in range(1000):
        reports = list(repetition(seed))
        num_resampled += sum(report.has_resampled for report in reports)
        ratios.append(math.exp(reports[-1].result.log_evidence - exact))
    error = np.std(ratios, ddof=1) / math.sqrt(1000)
    assert num_resampled > least_resampled
    assert error < largest_error
    assert abs(np.mean(ratios) - 1.0) < 4 * error
