"""The bound on a week in hindsight against brute force, other programs, and whatever a policy may do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from baselines.duality import linear_bound
from baselines.shared_battery.grid import grid_of, units_down, units_up
from baselines.shared_battery.hindsight import fractional_bound, hindsight
from baselines.solve import LinearProgram
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week, sample_weeks

WEEK = Instance()
HUGE = WEEK.replace(miles_per_kwh=1e-3, need_max_kwh=1e5, bin_kwh=1e3, shared_fraction=100.0)


def week_of(model, sizes, values):
    """Weeks (E, T) of given requests; drivers come in the order of their numbers."""
    sizes, values = np.atleast_2d(np.asarray(sizes, float)), np.atleast_2d(np.asarray(values, float))
    n = model.instance.drivers
    driver = np.tile(np.arange(n), (len(sizes), model.instance.week_days))
    pad = ((0, 0), (0, 1))
    return Week(np.pad(driver, pad), np.pad(sizes, pad), np.pad(np.where(sizes > 0.0, values, 0.0), pad))


def tiny(days, drivers, recharge=0.25, partial=False):
    return WeekModel(Instance(drivers=drivers, week_days=days, recharge_fraction=recharge), partial=partial)


def brute_force(model, week):
    """Best return (E,) over all subsets of the requests, each played in the environment."""
    steps = model.steps
    subsets = ((np.arange(2**steps)[:, None] >> np.arange(steps)) & 1).astype(np.int64)
    best = []
    for row in range(len(week.size_kwh)):
        every = Week(*(np.repeat(part[row : row + 1], len(subsets), axis=0) for part in week))
        best.append(rollout(model, every, Recorded(subsets)).returns.max())
    return np.array(best)


def random_requests(model, rng, rows, scale, whole):
    """Sizes in parts of ten of the battery (whole) or any, a third of them zero; values of all magnitudes."""
    share = rng.exponential(scale, (rows, model.steps))
    size = model.sizes.shared_kwh * (np.ceil(10 * share) / 10 if whole else share)
    size[rng.random(size.shape) < 0.3] = 0.0
    return week_of(model, size, np.exp(rng.normal(2.0, 1.0, size.shape)))


@pytest.mark.parametrize("whole", [True, False], ids=["whole sizes", "any sizes"])
@pytest.mark.parametrize(("days", "drivers"), [(1, 11), (2, 5), (3, 4)])
def test_the_bound_and_the_value_enclose_brute_force(days, drivers, whole):
    model = tiny(days, drivers)
    rng = np.random.default_rng(days)
    week = random_requests(model, rng, 6, 0.3, whole)
    best = brute_force(model, week)
    for grid in (40, 400, 4000):
        top = hindsight(model, week, grid)
        assert (top.value_usd <= best + 1e-9).all()
        assert (best <= top.bound_usd).all()
    assert np.isclose(top.value_usd, best).mean() >= 0.8
    if whole:  # sizes, battery and night are multiples of a unit: nothing is lost
        top = hindsight(model, week, 400)
        np.testing.assert_allclose(top.value_usd, best, rtol=1e-12)
        np.testing.assert_allclose(top.bound_usd, best, rtol=1e-12)


def test_the_choice_in_hindsight_earns_its_value_in_the_environment():
    model = WeekModel(WEEK)
    week = sample_weeks(WEEK, "generator", 20, 1)
    top = hindsight(model, week, 500)
    each = rollout(model, week, Recorded(top.share.astype(np.int64)))
    np.testing.assert_allclose(each.returns, top.value_usd, rtol=1e-12)
    assert set(np.unique(top.share)) == {0.0, 1.0}


def test_bound_and_value_meet_as_the_grid_gets_finer():
    week = sample_weeks(WEEK, "generator", 20, 1)
    gaps = []
    for grid in (50, 200, 800, 3200):
        top = hindsight(WEEK, week, grid)
        gaps.append((top.bound_usd - top.value_usd).mean())
        assert (top.bound_usd >= top.value_usd).all()
    assert all(later < 0.5 * earlier for earlier, later in zip(gaps, gaps[1:], strict=False))
    assert gaps[-1] < 3e-3 * top.bound_usd.mean()


def test_a_battery_for_all_serves_all():
    plenty = WEEK.replace(shared_fraction=50.0, recharge_fraction=1.0)
    week = sample_weeks(plenty, "generator", 5, 3)
    top = hindsight(plenty, week)
    np.testing.assert_allclose(top.value_usd, week.value_usd.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(top.bound_usd, week.value_usd.sum(axis=1), rtol=1e-9)
    assert (top.bound_usd >= week.value_usd.sum(axis=1)).all()


def test_full_recharge_splits_the_week_into_days():
    full = WEEK.replace(recharge_fraction=1.0)
    week = sample_weeks(full, "generator", 5, 3)
    top = hindsight(full, week)
    single = WeekModel(full.replace(week_days=1))
    value, bound, relaxed = np.zeros(5), np.zeros(5), np.zeros(5)
    for day in range(7):
        part = slice(25 * day, 25 * day + 25)
        one = week_of(single, week.size_kwh[:, part], week.value_usd[:, part])
        alone = hindsight(single, one)
        value, bound = value + alone.value_usd, bound + alone.bound_usd
        relaxed += fractional_bound(single, one)
    np.testing.assert_allclose(top.value_usd, value, rtol=1e-12)
    assert (bound <= top.bound_usd * (1.0 + 1e-12)).all()  # a day may take its relaxation where that is tighter
    np.testing.assert_allclose(top.bound_usd, bound, rtol=1e-3)
    np.testing.assert_allclose(fractional_bound(full, week), relaxed, rtol=1e-9)


def test_without_recharge_the_week_is_one_knapsack():
    none = WEEK.replace(recharge_fraction=0.0, week_days=2, drivers=5)
    model = WeekModel(none)
    week = random_requests(model, np.random.default_rng(1), 4, 0.3, False)
    one = WeekModel(none.replace(week_days=1, drivers=10))
    scaled = Week(week.driver, week.size_kwh * one.sizes.shared_kwh / model.sizes.shared_kwh, week.value_usd)
    np.testing.assert_allclose(hindsight(model, week).value_usd, hindsight(one, scaled).value_usd, rtol=1e-12)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_policy_beats_the_bound_on_any_path(data):
    days, drivers = data.draw(st.sampled_from([(1, 6), (3, 4), (7, 5)]))
    model = tiny(days, drivers, data.draw(st.sampled_from([0.0, 0.1, 0.3, 1.0])))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    week = random_requests(model, rng, 20, data.draw(st.sampled_from([0.05, 0.3, 1.0])), data.draw(st.booleans()))
    s, tau = model.sizes.shared_kwh, 0.9 * TOLERANCE_KWH
    # requests that the environment grants although a little is missing, again and again
    traps = np.array([s + tau, 0.5 * s + 0.5 * tau, tau, 1e-9, 0.25 * s + tau, s])
    hit = rng.random(week.size_kwh[:, :-1].shape) < data.draw(st.sampled_from([0.0, 0.3, 0.9]))
    size = np.where(hit, rng.choice(traps, hit.shape), week.size_kwh[:, :-1])
    week = week_of(model, size, np.exp(rng.normal(2.0, 1.0, size.shape)))
    actions = (rng.random(size.shape) < data.draw(st.sampled_from([0.3, 0.8, 1.0]))).astype(np.int64)
    returns = rollout(model, week, Recorded(actions)).returns
    for grid in (7, 100, 1000):
        assert (returns <= hindsight(model, week, grid).bound_usd).all()
    assert (returns <= fractional_bound(model, week)).all()
    shared = WeekModel(model.instance, partial=True)
    shares = rng.uniform(-1.0, 1.0, (*size.shape, 1)).astype(np.float32)
    shares[rng.random(size.shape) < 0.5] = 1.0
    assert (rollout(shared, week, Recorded(shares)).returns <= hindsight(shared, week).bound_usd).all()


def test_what_the_environment_lets_through_is_covered_to_the_last_request():
    model = tiny(1, 8, 0.0)
    s = model.sizes.shared_kwh
    size = [s, *[0.99 * TOLERANCE_KWH] * 7]  # all granted, though nothing is left after the first
    week = week_of(model, size, [5.0] * 8)
    each = rollout(model, week, Recorded(np.ones((1, 8), np.int64)))
    assert each.returns[0] == 40.0
    for grid in (1, 3, 1000):
        assert hindsight(model, week, grid).bound_usd[0] >= 40.0


def relaxation_by_solver(model, week):
    """Proven bound (E,) of the linear relaxation: what any run of days can have is limited by one row."""
    lot, s, r = model.instance, model.sizes.shared_kwh, model.sizes.recharge_kwh
    day = np.arange(model.steps) // lot.drivers
    runs = [(i, j) for i in range(lot.week_days) for j in range(i, lot.week_days)]
    limit = np.array([s + (j - i) * r for i, j in runs])
    inside = np.array([(day >= i) & (day <= j) for i, j in runs])
    bounds = []
    for size, value in zip(week.size_kwh[:, :-1], week.value_usd[:, :-1], strict=True):
        if not model.partial:
            value = np.where(size <= s + TOLERANCE_KWH, value, 0.0)
        matrix = csr_matrix(inside * size)
        zero, one = np.zeros(model.steps), np.ones(model.steps)
        program = LinearProgram(value, zero, one)
        program.add_matrix(np.full(len(runs), -np.inf), limit, matrix)
        dual = program.solve().row_dual
        bounds.append(linear_bound(value, matrix, np.full(len(runs), -np.inf), limit, zero, one, dual))
    return np.array(bounds)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("recharge", [0.0, 0.25, 0.6, 1.0])
def test_shares_by_density_are_the_optimum_of_the_linear_program(partial, recharge):
    model = WeekModel(WEEK.replace(recharge_fraction=recharge), partial=partial)
    week = sample_weeks(model.instance, "generator", 4, 5)
    np.testing.assert_allclose(fractional_bound(model, week), relaxation_by_solver(model, week), rtol=1e-4)
    # requests of 2e-5 kWh less: no more than that apart
    assert (fractional_bound(model, week) >= relaxation_by_solver(model, week) * (1.0 - 1e-9)).all()


def test_the_relaxation_is_never_below_the_knapsack():
    for name in ("lognormal", "density", "equal"):
        lot = WEEK.replace(values=name)
        week = sample_weeks(lot, "generator", 30, 2)
        top, relaxed = hindsight(lot, week, 1000), fractional_bound(lot, week)
        assert (relaxed >= top.bound_usd).all()
        assert (relaxed > top.bound_usd).any()


def test_shares_in_hindsight_earn_their_value_in_the_partial_environment():
    model = WeekModel(WEEK, partial=True)
    week = sample_weeks(WEEK, "generator", 10, 4)
    top = hindsight(model, week)
    state, earned = model.initial(week), np.zeros(10)
    for t in range(model.steps):
        size = week.size_kwh[:, t]
        most = np.where(size > 0.0, np.minimum(size, state.left_kwh) / np.where(size > 0.0, size, 1.0), 1.0)
        wish = np.clip(top.share[:, t] / np.maximum(most, 1e-300), 0.0, 1.0)
        state, money, _ = model.step(week, state, 2.0 * wish[:, None] - 1.0)
        earned += money[:, 0]
    np.testing.assert_allclose(earned, top.value_usd, rtol=1e-8)
    np.testing.assert_allclose(top.value_usd, top.bound_usd, rtol=1e-4)
    assert (top.bound_usd >= hindsight(WEEK, week).value_usd).all()


def test_rows_do_not_depend_on_each_other():
    week = sample_weeks(WEEK, "generator", 6, 4)
    for world in (WeekModel(WEEK), WeekModel(WEEK, partial=True)):
        top = hindsight(world, week)
        alone = hindsight(world, Week(*(part[3:4] for part in week)))
        for all_rows, one in zip(top, alone, strict=True):
            np.testing.assert_array_equal(all_rows[3:4], one)


def test_units_never_lose_a_request():
    cells = grid_of(WeekModel(WEEK), 400)
    size = np.random.default_rng(0).uniform(0.0, 60.0, 10_000)
    down, up = units_down(size, cells, 10**6), units_up(size, cells, 10**6)
    assert (down * cells.unit_kwh <= size).all()
    assert (up * cells.unit_kwh >= size * (1.0 - 1e-12)).all()
    assert set(np.unique(up - down)) <= {1, 2}
    assert (units_down(size, cells, 100) <= 100).all()
    assert cells.night_down == cells.night_up == 100


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda week: hindsight(WEEK, week, 0), "grid"),
        (lambda week: hindsight(WEEK, week, 2.5), "grid"),
        (lambda week: hindsight(WEEK, week, 10**8), "grid"),
        (lambda week: hindsight(WEEK.replace(week_days=6), week), "shape of the weeks"),
        (lambda week: hindsight(HUGE, week), "shared battery"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, named):
    with pytest.raises(InvalidInputError, match=named):
        make(sample_weeks(WEEK, "generator", 1, 1))
