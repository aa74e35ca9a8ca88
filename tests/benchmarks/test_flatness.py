from __future__ import annotations

import pytest

from benchmarks.flatness import judge

TIMES = [float(at) for at in range(0, 200, 5)]


def test_a_figure_that_grows_at_first_and_then_stays_is_flat() -> None:
    values = [min(100.0, 10 + at) for at in TIMES]

    assert judge("memory", TIMES, values, unit="MiB", floor=1.0).flat


def test_a_figure_that_goes_on_growing_is_not_flat() -> None:
    values = [100 + at for at in TIMES]

    verdict = judge("memory", TIMES, values, unit="MiB", floor=1.0)

    assert not verdict.flat
    assert verdict.rise == pytest.approx(95)
    assert str(verdict).startswith("NOT FLAT")


def test_a_figure_that_falls_is_flat() -> None:
    assert judge("latency", TIMES, [500 - at for at in TIMES], unit="ms", floor=0.1).flat


def test_a_saw_whose_teeth_do_not_grow_is_flat() -> None:
    times = [float(at) for at in range(0, 1800, 5)]
    values = [100 + 40 * (number % 4) for number in range(len(times))]

    assert judge("files", times, values, unit="MiB", floor=1.0).flat


def test_what_is_small_may_rise_by_the_floor() -> None:
    values = [1 + at / 100 for at in TIMES]

    assert judge("p50", TIMES, values, unit="ms", floor=1.0).flat
    assert not judge("p50", TIMES, values, unit="ms", floor=0.1).flat


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge("p50", TIMES[:6], [1.0] * 6, unit="ms", floor=1.0)
