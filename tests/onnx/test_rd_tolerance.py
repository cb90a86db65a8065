"""How coarse weights may get: what plans that were tried tell about others."""

from __future__ import annotations

import pytest

from nnc_onnx.rd.tolerance import Limits, Tried, coarsest_kept, expected_change

OPEN = Limits(-10.0, -20.0)


def plans(*points: tuple[float, float]) -> list[Tried]:
    return [Tried(asked, change) for asked, change in points]


def test_one_plan_tells_by_its_distance() -> None:
    assert expected_change(plans((-20.0, -15.0)), -26.0) == pytest.approx(-21.0)


def test_near_plans_tell_more() -> None:
    tried = plans((-20.0, -15.0), (-30.0, -35.0))
    assert -16.5 < expected_change(tried, -20.0) < -15.0
    assert -35.0 < expected_change(tried, -30.0) < -33.5


def test_what_one_plan_says_by_chance_counts_little() -> None:
    steady = [(-18.0, -18.0), (-20.0, -20.0), (-22.0, -22.0)]
    assert expected_change(plans(*steady, (-21.0, -31.0)), -21.0) > -25.0


@pytest.mark.parametrize("shift", [-6.0, -3.0, 0.0])
def test_limits_are_met_and_not_more_than_met(shift: float) -> None:
    asked = coarsest_kept(OPEN, shift, plans((-15.0, -16.0)), -10.0 + shift, -40.0)
    assert -0.25 < expected_change(plans((-15.0, -16.0)), asked) - (OPEN.change + shift) <= 0 + 1e-9


def test_weights_have_a_limit_of_their_own() -> None:
    assert coarsest_kept(OPEN, 0.0, plans((-10.0, -50.0)), -10.0, -40.0) == -10.0


def test_what_cannot_be_met_gets_the_finest() -> None:
    assert coarsest_kept(OPEN, 0.0, plans((-40.0, 3.0)), -10.0, -40.0) == -40.0
    assert coarsest_kept(OPEN, 0.0, plans((-10.0, 3.0)), -10.0, -10.0) == -10.0
