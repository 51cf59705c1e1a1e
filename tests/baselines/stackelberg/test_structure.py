"""What must hold in any sensible calibration: facts about shapes, on certified answers, for both sets of bids."""

from functools import cache

import numpy as np
import pytest

from agents.stackelberg_answers import answer, replayed
from agents.stackelberg_published import CHARGER, FLEET, UTILITY, WORKPLACE, fit_fleet, fleet_factor
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.game import Requirement
from v2g_env.stackelberg.instance import Instance

LAWS = {
    "ours": Instance(),
    "published": Instance(signals="published", variant="published"),
    "nearer fit": Instance(plugged=0.85, deviation_fraction=0.00086),
}
GAP_PERCENT = 0.011


@cache
def solved(law, **changes):
    found = answer(LAWS[law].replace(**changes).game(), 10.0)
    assert found.gap_percent <= GAP_PERCENT
    return found


def falls(values):
    return all(a > b for a, b in zip(values, values[1:], strict=False))


@pytest.fixture(params=LAWS)
def law(request):
    return request.param


def test_profit_without_rebates_is_proportional_to_the_power(law):
    unit = solved(law).without_usd / 10.0
    for power in CHARGER:
        assert solved(law, charger_kw=power).without_usd == pytest.approx(unit * power, rel=1e-12)


def test_published_profit_without_rebates_is_proportional_too():
    per_kw = [row.without_usd / power for power, row in CHARGER.items()]
    assert np.ptp(per_kw) < 2e-4  # rounding of the table


def test_the_published_fleet_column_follows_the_formula():
    fit = fit_fleet(list(FLEET), [row.without_usd for row in FLEET.values()])
    assert fit.worst_usd < 0.02
    assert fit.spread > 0.0
    assert 0.0 < fit.signal < 1.0


@pytest.mark.parametrize("share", [0.3, 0.752, 0.95])
@pytest.mark.parametrize("deviation", [0.0, 0.055, 0.178])
def test_published_bids_follow_the_formula_at_any_share(share, deviation):
    beta = np.sqrt(-2.0 * np.log(0.1))
    for drivers in FLEET:
        requirement = Requirement(10.0, 0.1, 1.0, deviation, deviation)
        game = Instance().game().replace(drivers=drivers, variant="published", requirements=(requirement,))
        bid = allowed_bid(np.array([[[share]]]), np.ones(1), coefficients(game), False)[0, 0]
        c = fleet_factor(drivers, beta**2 * (1.0 - share) / share, beta * deviation)
        assert c - 1.0 + np.sqrt(beta**2 * (1.0 - share) / share / drivers + (beta * deviation * c) ** 2) < 1e-12
        assert bid == pytest.approx(10.0 * drivers * share * c, rel=1e-12)


def test_profit_without_rebates_follows_the_formula_in_the_fleet_size(law):
    column = [replayed(LAWS[law].replace(drivers=m).game(), np.zeros(24)).without_usd for m in FLEET]
    assert fit_fleet(list(FLEET), column).worst_usd < 0.02


def test_gains_fall_with_the_fleet_and_the_utility(law):
    assert falls([solved(law, drivers=m).improvement_percent for m in FLEET])
    assert falls([solved(law, baseline_utility_usd=u).improvement_percent for u in UTILITY])
    base, dear = solved(law), solved(law, baseline_utility_usd=500.0)
    assert dear.at_most_percent < 0.1 * base.improvement_percent


def test_power_and_rebates_are_complements(law):
    found = [solved(law, charger_kw=power) for power in CHARGER]
    assert falls([each.improvement_percent for each in found][::-1])
    assert falls([each.rebate_usd for each in found][::-1])


@pytest.mark.parametrize("row", [WORKPLACE[k] for k in (0, 9, 16)], ids=str)
def test_workplace_chargers_and_rebates_are_substitutes(row):
    mix = (row.c2, row.c3, row.c1)
    home = solved("ours", composition=mix)
    both = answer(Instance(composition=mix, workplace=0.8).game(), 2.0)  # proven bounds, whatever the time allows
    assert both.without_usd > home.without_usd
    assert both.at_most_percent < home.improvement_percent
    assert both.rebate_usd < home.rebate_usd


def test_a_community_pays_more_and_follows_the_price(law):
    price = LAWS[law].base_price
    platform, drivers = solved(law), solved(law, owner="drivers")
    assert drivers.with_usd >= 0.0
    assert drivers.plan.mean() > platform.plan.mean()
    assert drivers.rebate_usd > platform.rebate_usd
    assert np.corrcoef(drivers.plan, price)[0, 1] > 0.9
    assert np.corrcoef(platform.plan, price)[0, 1] < np.corrcoef(drivers.plan, price)[0, 1]


@pytest.mark.parametrize("power", [7.2, 10.0, 20.0])
def test_a_guarantee_lowers_rebates_most_where_chargers_are_weak(power):
    free = solved("ours", charger_kw=power)
    kept = []
    for omega in (0.5, 1.0, 2.0, 3.0):
        found = solved("ours", charger_kw=power, guarantee_kw=omega)
        assert found.rebate_usd < free.rebate_usd
        assert found.with_usd < free.with_usd
        kept.append(found.rebate_usd / free.rebate_usd)
    if power < 10.0:
        base = solved("ours").rebate_usd
        assert kept[-1] < solved("ours", guarantee_kw=3.0).rebate_usd / base
