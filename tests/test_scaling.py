"""Slopes on log-log axes, on made-up times whose slopes are known."""

import math

import numpy as np
import pytest

from vitrail.efficiency import local_slope
from vitrail.scaling import local_slopes, log_slopes, predicted_slopes


def test_power_laws_give_their_exponent():
    n = np.array([10, 20, 50, 400])
    for power in (0, 1, 2.5):
        np.testing.assert_allclose(log_slopes(n, 3e-6 * n**power), power, atol=1e-12)
    slopes = local_slopes([10, 20, 40], [1.0, 2.0, 8.0])
    assert [round(slope.slope, 12) for slope in slopes] == [1, 2]
    assert math.isnan(slopes[0].low) and math.isnan(slopes[0].high)
    assert slopes[1].n_middle == pytest.approx(math.sqrt(800))


def test_interval_covers_the_true_slope_and_narrows_with_repeats():
    generator = np.random.default_rng(1)
    sizes = [16, 64, 256]
    covered, widths = 0, {}
    for repeats in (10, 100):
        widths[repeats] = []
        for _ in range(20):
            times = [1e-6 * n**1.5 * generator.lognormal(0, 0.1, repeats) for n in sizes]
            for slope in local_slopes(sizes, times, resamples=400):
                assert slope.low <= slope.slope <= slope.high
                covered += slope.low <= 1.5 <= slope.high
                widths[repeats].append(slope.high - slope.low)
    assert covered >= 0.8 * 80  # nominal 95 %, of 2 slopes x 20 draws x 2 sizes
    assert np.mean(widths[100]) < 0.6 * np.mean(widths[10])


def test_outliers_do_not_move_the_slope_and_the_seed_fixes_the_interval():
    times = [[1.0] * 9 + [50.0], [4.0] * 9 + [90.0]]
    (slope,) = local_slopes([1, 2], times)
    assert slope.slope == 2
    assert local_slopes([1, 2], times) == [slope]


def test_predicted_slopes_lie_between_the_derivatives_at_both_ends():
    n = [17, 50, 197, 785]
    block = predicted_slopes(n, 64, 4.0)
    for slope, low, high in zip(block, n[:-1], n[1:], strict=True):
        assert local_slope(low, 64) < slope < local_slope(high, 64)
    assert (predicted_slopes(n, 64, None) > block).all()  # no MLP, more quadratic
    np.testing.assert_allclose(predicted_slopes([10**7, 10**8], 64), 2, atol=1e-3)


@pytest.mark.parametrize(
    ("n", "seconds", "message"),
    [
        ([10], [1.0], "two or more"),
        ([10, 10], [1.0, 2.0], "rising"),
        ([10, 20], [1.0], "2 sizes and 1"),
        ([10, 20], [1.0, []], "above zero"),
        ([10, 20], [1.0, [2.0, math.nan]], "above zero"),
    ],
)
def test_what_has_no_slope_is_refused(n, seconds, message):
    with pytest.raises(ValueError, match=message):
        local_slopes(n, seconds)
