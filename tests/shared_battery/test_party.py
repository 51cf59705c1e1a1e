"""Drivers who report: who gets what, who gains by lying, and payments that make the truth best."""

import numpy as np
import pytest

from v2g_env.core.allocation import allocate
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.party import PAYMENTS, SharedBatteryParties

LOT = Instance(drivers=6, rule="proportional")


def drawn(model, n=4, seed=0):
    scenario = model.draw([np.random.default_rng(seed + i) for i in range(n)])
    return scenario, model.initial(scenario)


@pytest.mark.parametrize("rule", ["proportional", "first_come", "max_min", "utilitarian"])
def test_truthful_reports_are_shared_by_the_rule(rule):
    model = SharedBatteryParties(LOT.replace(rule=rule))
    days, state = drawn(model)
    for day in range(model.steps):
        state, money, facts = model.step(days, state, {"driver": np.zeros((4, 6, 1))})
        order = days.order[:, day] if rule == "first_come" else None
        given = allocate(rule, days.lack_kwh[:, day], model.shared_kwh, order)
        used = np.minimum(given, days.lack_kwh[:, day])
        np.testing.assert_allclose(money["driver"][..., 0], days.value[:, day] * used)
        np.testing.assert_allclose(facts[:, 1], (given - used).sum(axis=1), atol=1e-9)
        np.testing.assert_allclose(facts[:, 0] * 10.0, days.lack_kwh[:, day].sum(axis=1) - model.shared_kwh)


def gains(payment, action, rule="proportional"):
    """What driver 0 gains by an action while all others are truthful, day by day."""
    model = SharedBatteryParties(LOT.replace(rule=rule), payment=payment)
    days, state = drawn(model, 30, 7)
    lie = np.zeros((30, 6, 1))
    lie[:, 0] = action
    found = []
    for _ in range(model.steps):
        _, truth, _ = model.step(days, state, {"driver": np.zeros((30, 6, 1))})
        state, told, _ = model.step(days, state, {"driver": lie})
        found.append(told["driver"][:, 0].sum(axis=1) - truth["driver"][:, 0].sum(axis=1))
    return np.array(found)


def test_overstating_pays_under_proportional_sharing_and_never_with_clarke_payments_or_max_min():
    assert gains("none", 1.0).mean() > 0.5
    for action in (-1.0, -0.5, -0.1, 0.1, 0.5, 1.0):
        assert gains("clarke", action).max() <= 1e-9
        assert gains("none", action, "max_min").max() <= 1e-9


def test_what_drivers_pay_is_what_is_reported_as_paid_and_none_pays_more_than_he_gets():
    for payment in PAYMENTS:
        model = SharedBatteryParties(LOT, payment=payment)
        days, state = drawn(model)
        _, money, facts = model.step(days, state, {"driver": np.zeros((4, 6, 1))})
        np.testing.assert_allclose(-money["driver"][..., 1].sum(axis=1), facts[:, 4])
        if payment == "clarke":
            assert (money["driver"].sum(axis=2) >= -1e-9).all()


def test_reports_are_shares_below_the_truth_and_multiples_above():
    model = SharedBatteryParties(LOT, overstate_max=3.0)
    reports = model.report_of(np.full(5, 2.0), np.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
    np.testing.assert_allclose(reports, [0.0, 1.0, 2.0, 4.0, 6.0])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"payment": "vow"}, "payment"),
        ({"overstate_max": 1.0}, "overstate_max"),
        ({"days": 0}, "days"),
        ({"price_usd_per_kwh": -1.0}, "price_usd_per_kwh"),
    ],
)
def test_wrong_options_are_named(options, field):
    with pytest.raises(InvalidInputError, match=field):
        SharedBatteryParties(LOT, **options)
