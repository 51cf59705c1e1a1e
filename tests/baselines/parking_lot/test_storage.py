from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.parking_lot.reference import solve_reference
from baselines.parking_lot.samples import openable
from baselines.parking_lot.storage import Market, bound, plan_money, solve_paths, tie_break
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Capacity

SEEDS = st.integers(0, 2**32 - 1)


def random_lot(rng: np.random.Generator, steps: int = 13, step_h: float = 1.0, **changes) -> Instance:
    """Prices, losses and limits drawn within the rules of Instance."""
    sell = rng.random() * 0.8
    prices = rng.random(24) * rng.choice([0.3, 1.0])
    if rng.random() < 0.3:
        prices = np.repeat(rng.random(4), 6)  # long stretches of one price: only the tie-break decides
    values = {
        "open_h": 0.0,
        "close_h": steps * step_h,
        "step_h": step_h,
        "buy_usd_per_kwh": tuple(prices.tolist()),
        "sell_fraction": sell,
        "fee_fraction": rng.uniform(sell, 1.0),
        "return_fraction": rng.uniform(sell, 1.0),
        "wear_usd_per_kwh": rng.choice([0.0, 0.01, prices.max()]),
        "efficiency": rng.choice([1.0, 0.95, 0.7]),
        "grid_limit_kw": rng.choice([0.0, 20.0, 600.0]),
    }
    return Instance(**(values | changes))


def random_case(rng: np.random.Generator, lot: Instance, n: int = 1):
    """Offers, capacities with zeros, powers with zeros that often bind."""
    steps = lot.steps
    net = rng.normal(size=(n, steps)) * 100.0 * (rng.random((n, steps)) < 0.8)
    capacity = rng.random((n, steps)) * 200.0 * (rng.random((n, steps)) < 0.85)
    power = rng.random((n, steps)) * rng.choice([40.0, 400.0]) * (rng.random((n, steps)) < 0.85)
    return Market(lot.buy, np.maximum(net, 0.0), np.maximum(-net, 0.0)), capacity, power


def largest_start(lot: Instance, market: Market, capacity, power) -> float:
    """Energy that can still be brought down to zero by the end."""
    drain = np.minimum(power[0], market.deficit_kw[0] + lot.grid_limit_kw) * lot.step_h / lot.efficiency
    left = 0.0
    for t in range(lot.steps - 1, 0, -1):
        left = min(capacity[0, t - 1], left + drain[t])
    return left + drain[0]


def full_program(lot: Instance, market: Market, capacity, power, start: float):
    """Every exchange a variable of its own, in cvxpy: stored energy, and money without the tie-break."""
    import cvxpy as cp

    steps, tau, eta = lot.steps, lot.step_h, lot.efficiency
    taken, back, bought, sold, up, down, x = (cp.Variable(steps, nonneg=True) for _ in range(7))
    limit = np.append(capacity[0, :-1], 0.0)
    money = tau * (
        market.buy @ (lot.return_fraction * back + lot.sell_fraction * sold - lot.fee_fraction * taken - bought)
        - lot.wear_usd_per_kwh * cp.sum(up + down)
    )
    rules = [
        up - down == taken + bought - back - sold,
        x == cp.hstack([np.array([start]), x[:-1]]) + tau * (eta * up - down / eta),
        x <= limit, up <= power[0], down <= power[0],
        taken <= market.surplus_kw[0], back <= market.deficit_kw[0],
        bought <= lot.grid_limit_kw, sold <= lot.grid_limit_kw,
    ]  # fmt: skip
    problem = cp.Problem(cp.Maximize(money - tie_break(steps) @ x), rules)
    problem.solve(solver=cp.HIGHS, dual_feasibility_tolerance=1e-10, primal_feasibility_tolerance=1e-10)
    assert problem.status == cp.OPTIMAL
    return x.value, float(money.value)


def exact_optimum(lot: Instance, market: Market, capacity, power, ties, start: float = 0.0) -> Fraction:
    """Optimum of the float data in rational arithmetic, by concave functions as lists of (slope, length)."""
    as_exact = np.vectorize(Fraction, otypes=[object])
    eta, tau, wear, grid = (Fraction(v) for v in (lot.efficiency, lot.step_h, lot.wear_usd_per_kwh, lot.grid_limit_kw))
    buy, caps, powers = as_exact(market.buy), as_exact(capacity), as_exact(power)
    surplus, deficit, fees = as_exact(market.surplus_kw[0]), as_exact(market.deficit_kw[0]), as_exact(ties)
    fee, back, sell = (Fraction(v) for v in (lot.fee_fraction, lot.return_fraction, lot.sell_fraction))
    low, value, pieces = Fraction(0), Fraction(0), []  # W over [low, ...]: value at low, then slopes
    for t in range(len(market.buy) - 1, -1, -1):
        taken, returned = min(powers[t], surplus[t]), min(powers[t], deficit[t])
        bought = min(powers[t], surplus[t] + grid) - taken
        sold = min(powers[t], deficit[t] + grid) - returned
        charge = [((buy[t] + wear) / eta, bought * eta * tau), ((fee * buy[t] + wear) / eta, taken * eta * tau)]
        drain = [(eta * (back * buy[t] - wear), returned * tau / eta), (eta * (sell * buy[t] - wear), sold * tau / eta)]
        value -= sum((slope * length for slope, length in charge), Fraction(0))
        low -= charge[0][1] + charge[1][1]
        pieces = sorted(pieces + charge + drain, key=lambda piece: -piece[0])
        # now V_t(x_{t-1}); W_{t-1} = V_t - tie on [0, K_{t-1}]
        at = Fraction(start) if t == 0 else Fraction(0)
        kept, room = [], caps[t - 1] if t else Fraction(0)
        for slope, length in pieces:
            skip = min(max(at - low, Fraction(0)), length)
            low, value, length = low + skip, value + slope * skip, length - skip
            use = min(length, room)
            room -= use
            if use > 0:
                kept.append((slope - fees[t - 1], use))
        assert low == at
        if t:
            value -= fees[t - 1] * low
        pieces = kept
    return value


def test_a_day_by_hand():
    lot = Instance(
        open_h=0.0, close_h=3.0, efficiency=0.5, wear_usd_per_kwh=0.01,
        buy_usd_per_kwh=(0.1, 1.0, 1.0) + (1.0,) * 21, fee_fraction=0.4, return_fraction=0.9,
    )  # fmt: skip
    market = Market(lot.buy, np.array([[3.0, 0.0, 0.0]]), np.array([[0.0, 2.0, 0.0]]))
    answer = solve_paths(lot, market, np.full((1, 3), 10.0))
    # 2 kWh handed back take 4 kWh of storage: 3 kW of surplus and 5 kW from the retailer. Charging .11 / .5 per kWh for
    # the retailer's .39 x .5 does not pay
    assert answer.stored_kwh[0].tolist() == pytest.approx([4.0, 0.0, 0.0], abs=1e-9)
    assert answer.value_usd[0] == pytest.approx(-3 * 0.04 - 5 * 0.1 - 8 * 0.01 + 2 * 0.9 - 2 * 0.01, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_every_point_of_a_fine_grid_earns_no_more_and_the_best_is_found(seed):
    # without losses all corners of the program are whole numbers, so the grid holds the optimum
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 4, efficiency=1.0, grid_limit_kw=float(rng.integers(0, 6)))
    net = rng.integers(-5, 6, 4).astype(float)
    capacity, power = rng.integers(0, 12, (1, 4)).astype(float), rng.integers(0, 8, (1, 4)).astype(float)
    market = Market(lot.buy, np.maximum(net, 0.0)[None], np.maximum(-net, 0.0)[None])
    best, plan = -np.inf, None
    for point in product(*(range(int(k) + 1) for k in capacity[0, :3])):
        x = np.array([*point, 0.0])
        change = np.diff(x, prepend=0.0)
        charge, drain = np.maximum(change, 0.0), np.maximum(-change, 0.0)
        if (np.maximum(charge, drain) > power[0]).any():
            continue
        bought, sold = np.maximum(charge - market.surplus_kw[0], 0.0), np.maximum(drain - market.deficit_kw[0], 0.0)
        if max(bought.max(), sold.max()) > lot.grid_limit_kw:
            continue
        per_unit = lot.return_fraction * (drain - sold) + lot.sell_fraction * sold
        per_unit -= lot.fee_fraction * (charge - bought) + bought
        money = float(lot.buy @ per_unit - lot.wear_usd_per_kwh * (charge + drain).sum()) - float(tie_break(4) @ x)
        if money > best:
            best, plan = money, x
    answer = solve_paths(lot, market, capacity, power)
    assert answer.value_usd[0] - tie_break(4) @ answer.stored_kwh[0] == pytest.approx(best, abs=1e-9)
    assert np.allclose(answer.stored_kwh[0], plan, atol=1e-9)


@pytest.mark.parametrize("seed", range(24))
def test_value_and_plan_equal_the_full_program(seed):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng)
    market, capacity, power = random_case(rng, lot)
    answer = solve_paths(lot, market, openable(lot, capacity), power)
    full = solve_reference(lot, market, Capacity(capacity, power))
    assert answer.value_usd[0] == pytest.approx(full.value_usd, abs=1e-6)
    assert np.allclose(answer.stored_kwh[0], full.stored_kwh, atol=1e-5)


@pytest.mark.parametrize("seed", range(16))
def test_a_start_with_energy_equals_the_full_program(seed):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 8)
    market, capacity, power = random_case(rng, lot)
    start = rng.choice([0.3, 0.999]) * largest_start(lot, market, capacity, power)
    answer = solve_paths(lot, market, capacity, power, np.array([start]))
    stored, value = full_program(lot, market, capacity, power, start)
    assert answer.value_usd[0] == pytest.approx(value, abs=1e-6)
    assert np.allclose(answer.stored_kwh[0], stored, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_day_of_quarter_hours_equals_the_full_program(seed):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 96, 0.25, grid_limit_kw=600.0, efficiency=0.95)
    market, capacity, power = random_case(rng, lot)
    answer = solve_paths(lot, market, openable(lot, capacity), power)
    full = solve_reference(lot, market, Capacity(capacity, power))
    assert answer.value_usd[0] == pytest.approx(full.value_usd, abs=1e-6)
    assert np.allclose(answer.stored_kwh[0], full.stored_kwh, atol=1e-5)


@pytest.mark.parametrize("case", ["no capacity", "no power", "no grid, no offers"])
def test_where_nothing_can_move_nothing_is_stored_or_earned(case):
    lot = Instance(grid_limit_kw=0.0) if case.startswith("no grid") else Instance()
    ones = np.full((1, lot.steps), 100.0)
    market = Market(lot.buy, ones * (case != "no grid, no offers"), ones * 0.0)
    answer = solve_paths(lot, market, ones * (case != "no capacity"), ones * (case != "no power"))
    assert not answer.stored_kwh.any()
    assert answer.value_usd[0] == 0.0
    limits = ones * (case != "no capacity"), ones * (case != "no power")
    top = bound(lot, market, *limits, answer.multiplier, tie_break(lot.steps))
    assert 0.0 <= top[0] <= 1e-9


@given(SEEDS, SEEDS, st.sampled_from([0.0, 0.1, 1.0, 100.0]), st.booleans())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_any_multipliers_bound_the_exact_optimum(seed, other, scale, with_start):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 6)
    market, capacity, power = random_case(rng, lot)
    start = 0.5 * largest_start(lot, market, capacity, power) if with_start else 0.0
    first = np.array([start])
    answer = solve_paths(lot, market, capacity, power, first)
    zeros = np.zeros(lot.steps)
    plain, fees = (exact_optimum(lot, market, capacity[0], power[0], ties, start) for ties in (zeros, tie_break(6)))
    # the path found is optimal for the objective with the tie-break, and its multipliers prove it
    proven = bound(lot, market, capacity, power, answer.multiplier, tie_break(6), first)[0]
    assert fees <= Fraction(float(proven)) <= fees + Fraction(1e-6)
    assert answer.value_usd[0] - tie_break(6) @ answer.stored_kwh[0] == pytest.approx(float(fees), abs=1e-9)
    # any others prove a limit too, never below the optimum
    wild = answer.multiplier + scale * np.random.default_rng(other).normal(size=(1, lot.steps))
    assert plain <= Fraction(float(bound(lot, market, capacity, power, wild, None, first)[0]))
    assert fees <= Fraction(float(bound(lot, market, capacity, power, wild, tie_break(6), first)[0]))
    assert answer.value_usd[0] <= bound(lot, market, capacity, power, wild, None, first)[0] + 1e-12
    # without P the limit can only rise
    assert plain <= Fraction(float(bound(lot, market, capacity, None, wild, None, first)[0]))


@pytest.mark.parametrize("seed", range(12))
def test_the_returned_multipliers_prove_the_value_within_the_tie_break(seed):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, int(rng.integers(3, 40)), 0.5)
    market, capacity, power = random_case(rng, lot, 5)
    answer = solve_paths(lot, market, capacity, power)
    fees = answer.stored_kwh @ tie_break(lot.steps)
    exact = bound(lot, market, capacity, power, answer.multiplier, tie_break(lot.steps))
    assert (exact >= answer.value_usd - fees).all()
    assert np.allclose(exact, answer.value_usd - fees, atol=1e-6)
    held = capacity.copy()
    held[:, -1] = 0.0
    plain = bound(lot, market, capacity, power, answer.multiplier)
    assert (plain >= answer.value_usd).all()
    assert (plain <= answer.value_usd + held @ tie_break(lot.steps) + 1e-6).all()


@given(SEEDS, SEEDS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_prices_of_further_rows_still_bound_the_program_with_those_rows(seed, other):
    # rows x_t <= k, u_t <= p, v_t <= p priced at r: bound(row_price = r) + r . right-hand side is a limit
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 5)
    market, capacity, power = random_case(rng, lot)
    loose, strong = np.full((1, 5), 250.0), np.full((1, 5), 500.0)
    prices = np.random.default_rng(other).random((3, 5)) * 0.5
    prices[0, -1] = 0.0
    lam = np.random.default_rng(other).normal(size=(1, 5)) * 0.3
    top = bound(lot, market, loose, strong, lam, row_price=prices)[0]
    top += prices[0] @ capacity[0] + (prices[1] + prices[2]) @ power[0]
    assert top >= solve_paths(lot, market, capacity, power).value_usd[0] - 1e-9


def test_rows_of_a_batch_do_not_know_each_other():
    rng = np.random.default_rng(5)
    lot = random_lot(rng)
    market, capacity, power = random_case(rng, lot, 9)
    together = solve_paths(lot, market, capacity, power)
    order = rng.permutation(9)
    shuffled = solve_paths(
        lot, Market(lot.buy, market.surplus_kw[order], market.deficit_kw[order]), capacity[order], power[order]
    )
    for have, want in zip(shuffled, together, strict=True):
        assert np.array_equal(have, want[order])
    for i in range(9):
        row = slice(i, i + 1)
        alone = solve_paths(
            lot, Market(lot.buy, market.surplus_kw[row], market.deficit_kw[row]), capacity[row], power[row]
        )
        for have, want in zip(alone, together, strict=True):
            assert np.array_equal(have[0], want[i])


def test_inputs_are_left_as_they_were():
    rng = np.random.default_rng(6)
    lot = random_lot(rng)
    market, capacity, power = random_case(rng, lot, 2)
    copies = [np.copy(part) for part in (*market, capacity, power)]
    answer = solve_paths(lot, market, capacity, power)
    bound(lot, market, capacity, power, answer.multiplier)
    assert all(np.array_equal(a, b) for a, b in zip(copies, (*market, capacity, power), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_money_of_a_path_is_what_its_exchanges_cost(seed):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 6, 0.5)
    market, capacity, _ = random_case(rng, lot)
    x = rng.random(6) * capacity[0]
    total, before = 0.0, 2.5
    for t in range(6):
        change = x[t] - before
        before = x[t]
        kwh = change / lot.efficiency if change > 0 else -change * lot.efficiency
        offer = 0.5 * (market.surplus_kw if change > 0 else market.deficit_kw)[0, t]
        share = (lot.fee_fraction, 1.0) if change > 0 else (-lot.return_fraction, -lot.sell_fraction)
        total -= lot.buy[t] * (share[0] * min(kwh, offer) + share[1] * max(kwh - offer, 0.0))
        total -= lot.wear_usd_per_kwh * kwh
    assert plan_money(lot, market, x, np.array([2.5]))[0] == pytest.approx(total, abs=1e-9)


def test_tie_break_fees_are_tiny_and_all_different():
    fees = tie_break(96)
    assert len(set(fees.tolist())) == 96
    assert fees.min() > 0.0
    assert fees.max() <= 2e-7


def wrong_inputs():
    lot = Instance()
    ones = np.ones((2, lot.steps))
    market = Market(lot.buy, ones, ones * 0.0)
    yield "one axis", (market, ones[0])
    yield "too few steps", (market, ones[:, :-1])
    yield "NaN capacity", (market, ones * np.nan)
    yield "infinite capacity", (market, ones * np.inf)
    yield "negative capacity", (market, -ones)
    yield "text", (market, "K")
    yield "both offers", (Market(lot.buy, ones, ones), ones)
    yield "rows of P", (market, ones, ones[:1])
    yield "negative P", (market, ones, -ones)
    yield "NaN P", (market, ones, ones * np.nan)
    yield "rows of the start", (market, ones, ones, np.ones(3))
    yield "negative start", (market, ones, ones, -np.ones(2))
    yield "NaN start", (market, ones, ones, np.full(2, np.nan))
    yield "start without way out", (market, ones, ones * 0.0, np.array([0.0, 1e-3]))


@pytest.mark.parametrize("arguments", [a for _, a in wrong_inputs()], ids=[n for n, _ in wrong_inputs()])
def test_bad_input_is_refused_by_name(arguments):
    with pytest.raises(InvalidInputError, match="allowed"):
        solve_paths(Instance(), *arguments)


@pytest.mark.parametrize("seed", range(8))
def test_a_start_is_accepted_exactly_up_to_what_can_be_brought_out(seed):
    rng = np.random.default_rng(seed)
    lot = random_lot(rng, 5, grid_limit_kw=20.0)
    market, capacity, power = random_case(rng, lot)
    limit = largest_start(lot, market, capacity, power)
    stored = solve_paths(lot, market, capacity, power, np.array([limit])).stored_kwh[0]
    assert (stored <= capacity[0]).all()
    with pytest.raises(InvalidInputError, match="start_kwh"):
        solve_paths(lot, market, capacity, power, np.array([limit + 1e-5]))
