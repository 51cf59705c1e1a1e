"""Policies of the week and the online bound: against an independent expectimax, simulation, and each other."""

import numpy as np
import pytest
from scipy.integrate import quad

from baselines.shared_battery.hindsight import fractional_bound, hindsight
from baselines.shared_battery.policies import (
    DensityThreshold,
    DynamicProgramme,
    FirstCome,
    PacedDensity,
    read_request,
    tune_density,
    tune_paced,
)
from baselines.shared_battery.week_programme import excess_value, online_bound, size_beyond, size_moment, solve_week
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import WeekState
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.needs import Needs, from_days
from v2g_env.shared_battery.scenario import law_of, sample_weeks

WEEK = Instance()
ALIKE = WEEK.replace(driver_spread=0.0)
LADDER = ("first come", "density", "paced", "programme")


@pytest.fixture(scope="module")
def model():
    return WeekModel(WEEK)


def ladder_of(model):
    training = sample_weeks(model.instance, model.law, 100, 8)
    return {
        "first come": FirstCome(model),
        "density": DensityThreshold(model, tune_density(model, training, 20)),
        "paced": PacedDensity(model, *tune_paced(model, training, 20, (0.5, 1.0))),
        "programme": DynamicProgramme(model),
        "myopic": DynamicProgramme(model, coupled=False),
    }


@pytest.fixture(scope="module")
def policies(model):
    return ladder_of(model)


@pytest.fixture(scope="module")
def weeks():
    return sample_weeks(WEEK, "generator", 1000, 7)


@pytest.fixture(scope="module")
def returns(model, weeks, policies):
    return {name: rollout(model, weeks, policy).returns for name, policy in policies.items()}


def beyond_noise(difference):
    """Mean of paired differences over its standard error."""
    return difference.mean() / (difference.std() / np.sqrt(len(difference)))


def test_the_ladder_of_policies_on_the_default_week(returns):
    for lower, higher in zip(LADDER, LADDER[1:], strict=False):
        assert beyond_noise(returns[higher] - returns[lower]) > 3.0, (lower, higher)


def test_looking_beyond_today_pays_where_nights_do_not_refill_the_battery(returns):
    assert beyond_noise(returns["programme"] - returns["myopic"]) > 10.0


def test_looking_beyond_today_changes_nothing_where_nights_refill_the_battery():
    full = WeekModel(WEEK.replace(recharge_fraction=1.0))
    week = sample_weeks(full.instance, "generator", 50, 7)
    one, other = (rollout(full, week, DynamicProgramme(full, 200, coupled)).returns for coupled in (True, False))
    np.testing.assert_allclose(one, other)


def test_no_policy_beats_the_bound_on_any_week(model, weeks, returns):
    top, relaxed = hindsight(model, weeks, 500), fractional_bound(model, weeks)
    for name, each in returns.items():
        assert (each <= top.bound_usd).all(), name
        assert (each <= relaxed).all(), name


def test_the_programme_comes_within_a_few_percent_of_hindsight(model, weeks, returns):
    top = hindsight(model, weeks).bound_usd.mean()
    assert 0.95 < returns["programme"].mean() / top < 0.98
    assert 0.55 < returns["first come"].mean() / top < 0.65


def requests_by_counting(model, factor, grid, rounding, count=400_000):
    """P(units) for units 0 to grid by counting needs at evenly spaced quantiles, all drivers alike."""
    uniforms = np.tile(((np.arange(count) + 0.5) / count)[:, None], (1, 1))
    needs = model.law.needs
    one = Needs("one", needs.bin_kwh, needs.idle[:1], needs.share[:1])
    need = one.from_uniform(uniforms)[:, 0]
    size = np.maximum(need * factor - model.sizes.own_kwh[0], 0.0)
    size = size[size > 0.0] / (model.sizes.shared_kwh / grid)
    units = {"nearest": np.rint, "down": np.floor, "up": np.ceil}[rounding](size).astype(int)
    return [(units == k).sum() / count for k in range(grid + 1)]


def expectimax(model, grid, rounding):
    """Value of the week by recursion over days, requests and levels; values integrated numerically."""
    lot = model.instance
    night = model.sizes.recharge_kwh / model.sizes.shared_kwh * grid
    night = {"nearest": night, "down": np.ceil(night), "up": np.floor(night)}[rounding]
    chances = [requests_by_counting(model, factor, grid, rounding) for factor in lot.weekday_factors[: lot.week_days]]
    memo = {}

    def surplus(price):
        def integrand(z):
            return (
                max(0.0, lot.value_usd * np.exp(lot.value_sd * z) - price) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
            )

        tail = 1.349898031630095e-3  # of the normal law beyond three standard deviations
        ends = [max(0.0, lot.value_usd * np.exp(sign * 3.0 * lot.value_sd) - price) for sign in (-1.0, 1.0)]
        middle = np.clip(np.log(max(price, 1e-9) / lot.value_usd) / lot.value_sd, -3.0, 3.0)
        return quad(integrand, middle, 3.0)[0] + tail * sum(ends)

    def value(day, k, level):
        if k == lot.drivers:
            if day == lot.week_days - 1:
                return 0.0
            place = min(level + night, float(grid))
            low = min(int(place), grid - 1)
            one, two = value(day + 1, 0, low), value(day + 1, 0, low + 1)
            return one + (place - low) * (two - one)
        if (day, k, level) not in memo:
            keep = value(day, k + 1, level)
            total = keep
            for units, chance in enumerate(chances[day]):
                if units <= level:
                    total += chance * surplus(keep - value(day, k + 1, level - units))
            memo[day, k, level] = total
        return memo[day, k, level]

    return value(0, 0, grid)


@pytest.mark.parametrize("rounding", ["nearest", "down", "up"])
def test_the_programme_is_the_value_of_an_independent_expectimax(rounding):
    lot = ALIKE.replace(drivers=3, week_days=2, weekday_factors=(1.0, 1.6, 1.0, 1.0, 1.0, 1.0, 1.0))
    for recharge in (0.25, 0.6, 1.0):
        model = WeekModel(lot.replace(recharge_fraction=recharge))
        solved = solve_week(model, 6, rounding)
        assert solved.value_usd == pytest.approx(expectimax(model, 6, rounding), rel=2e-5)


def test_the_excess_of_a_value_over_a_price_is_its_integral():
    rng = np.random.default_rng(0)
    for sd in (0.0, 0.3, 0.8, 2.0):
        draws = np.exp(sd * np.clip(rng.standard_normal(400_000), -3.0, 3.0))
        price = np.exp(sd * np.array([-4.0, -3.0, -1.0, 0.0, 0.5, 2.0, 3.0, 3.5]))
        exact = excess_value(price, sd)
        for each, found in zip(price, exact, strict=True):
            gain = np.maximum(draws - each, 0.0)
            assert abs(gain.mean() - found) <= 5.0 * gain.std() / np.sqrt(len(draws)) + 1e-12
        assert (np.diff(exact) <= 1e-15).all()
    assert excess_value(np.array([0.0]), 0.0)[0] == pytest.approx(1.0)
    fine = np.linspace(0.0, np.exp(2.4), 10 * (2**15 - 1) + 1)
    knots = np.interp(fine, fine[::10], excess_value(fine[::10], 0.8))
    above = knots - excess_value(fine, 0.8)
    assert above.min() >= -1e-12
    assert above.max() <= 1e-7


def test_the_size_law_is_the_environments(model, weeks):
    ends = np.array([0.0, 0.5, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0])
    friday = weeks.size_kwh[:, 100:125].ravel()
    beyond, moment = size_beyond(model, ends, 1.2), size_moment(model, ends, 1.2)
    error = 5.0 / np.sqrt(len(friday))
    for x, chance, mean in zip(ends, beyond, moment, strict=True):
        assert abs((friday > x).mean() - chance) < error
        assert abs((friday * (friday > x)).mean() - mean) < error * friday.std()


@pytest.mark.parametrize("values", ["lognormal", "density", "equal"])
def test_for_drivers_who_are_alike_the_programme_earns_what_it_promises(values):
    lot = ALIKE.replace(values=values)
    model = WeekModel(lot)
    week = sample_weeks(lot, "generator", 2000, 11)
    best = DynamicProgramme(model, 800)
    each = rollout(model, week, best).returns
    error = each.std() / np.sqrt(len(each))
    assert abs(each.mean() - best.solved.value_usd) < 4.0 * error + 0.002 * best.solved.value_usd
    limit = online_bound(model)
    lower, upper = (solve_week(model, 1000, rounding).value_usd for rounding in ("up", "down"))
    assert lower < best.solved.value_usd < upper <= limit
    assert upper < 1.01 * lower
    top = hindsight(model, week, 1000)
    assert limit < top.bound_usd.mean() - 4.0 * top.bound_usd.std() / np.sqrt(len(each))
    for name, policy in ladder_of(model).items():
        other = rollout(model, week, policy).returns
        assert other.mean() < limit + 4.0 * other.std() / np.sqrt(len(other)), name
        # beyond: the programme is the best of them
        assert beyond_noise(each - other) > -3.0, name


def test_the_online_bound_comes_down_to_the_optimum_with_finer_grids():
    limits = [online_bound(ALIKE, grid) for grid in (50, 100, 200, 400, 800)]
    assert limits == sorted(limits, reverse=True)
    lower = [solve_week(ALIKE, grid, "up").value_usd for grid in (50, 100, 200, 400, 800)]
    assert lower == sorted(lower)
    assert lower[-1] < limits[-1] < 1.01 * lower[-1]


def test_energy_is_worth_more_the_more_there_is_and_the_more_requests_are_to_come(model):
    for values in ("lognormal", "density", "equal"):
        solved = solve_week(WEEK.replace(values=values), 200)
        assert (np.diff(solved.after_usd, axis=2) >= -1e-9).all()
        assert (np.diff(solved.after_usd, axis=1) <= 1e-9).all()
        assert (np.diff(solved.morning_usd, axis=0) <= 1e-9).all()
        assert (solved.morning_usd >= solved.after_usd[:, 0] - 1e-9).all()
        assert (solved.after_usd[-1, -1] == 0.0).all()
    more = [solve_week(WEEK.replace(recharge_fraction=r), 100).value_usd for r in (0.0, 0.25, 0.5, 1.0)]
    assert more == sorted(more)


def test_own_logs_are_a_law_like_any_other():
    rng = np.random.default_rng(0)
    needs = from_days([rng.weibull(1.3, 200) * 12.0 for _ in range(5)])
    lot = WEEK.replace(drivers=5)
    model = WeekModel(lot, law_of(needs))
    week = sample_weeks(lot, model.law, 200, 3)
    each = rollout(model, week, DynamicProgramme(model, 200)).returns
    assert (each <= hindsight(model, week).bound_usd).all()
    assert beyond_noise(each - rollout(model, week, FirstCome(model)).returns) > 3.0
    with pytest.raises(InvalidInputError, match="drivers"):
        online_bound(model)


@pytest.mark.parametrize(("change", "named"), [({}, "drivers"), ({"driver_spread": 0.0, "correlation": 0.1}, "corr")])
def test_no_online_bound_where_none_is_known(change, named):
    with pytest.raises(InvalidInputError, match=f"{named}.*not available"):
        online_bound(WEEK.replace(**change))
    with pytest.raises(InvalidInputError, match="partial"):
        online_bound(WeekModel(ALIKE, partial=True))


@pytest.mark.parametrize("change", [{}, {"values": "density"}, {"values": "equal"}, {"value_sd": 2.0}])
def test_the_observation_tells_size_value_and_time(change):
    lot = WEEK.replace(**change)
    model = WeekModel(lot)
    week = sample_weeks(lot, "generator", 20, 3)
    for t in (0, 1, 24, 25, 90, 174):
        state = WeekState(np.full(20, t), np.linspace(0.0, model.sizes.shared_kwh, 20))
        request = read_request(model, model.observe(week, state))
        np.testing.assert_allclose(request.size_kwh, week.size_kwh[:, t], rtol=1e-6)
        shown = np.abs(np.log(np.maximum(week.value_usd[:, t], 1e-9) / 10.0)) < 4.0  # or by the density
        shown |= np.abs(np.log(np.maximum(week.value_usd[:, t], 1e-9) / np.maximum(week.size_kwh[:, t], 1e-9))) < 5.0
        seen = shown & (week.size_kwh[:, t] > 0.0)
        np.testing.assert_allclose(request.value_usd[seen], week.value_usd[seen, t], rtol=2e-5)
        assert (request.value_usd[week.size_kwh[:, t] == 0.0] == 0.0).all()
        np.testing.assert_allclose(request.left_kwh, state.left_kwh, rtol=1e-6)
        assert (request.day == t // 25).all()
        assert (request.place == t % 25).all()
        assert (request.asks == (week.size_kwh[:, t] > 0.0)).all()


def test_policies_look_at_the_observation_alone_and_at_each_row_for_itself(model, policies):
    week = sample_weeks(WEEK, "generator", 30, 3)
    rng = np.random.default_rng(0)
    # rows at different steps, as in a vectorised environment
    state = WeekState(rng.integers(0, 175, 30), rng.uniform(0.0, model.sizes.shared_kwh, 30))
    seen = model.observe(week, state)
    for name, policy in policies.items():
        every, memory = policy.predict(seen)
        assert memory is None
        assert every.dtype == np.int64
        assert every.shape == (30,)
        assert set(np.unique(every)) <= {0, 1}
        assert np.array_equal(policy.predict(seen[4:9])[0], every[4:9]), name
        assert policy.predict(seen[4])[0] == every[4]
        fits = model.masks(week, state)[:, 1]
        assert not every[~fits].any()
    done = model.observe(week, WeekState(np.full(30, 175), state.left_kwh))
    for policy in policies.values():
        assert policy.predict(done)[0].shape == (30,)


def test_policies_grant_shares_where_shares_may_be_granted(weeks, returns):
    shared = WeekModel(WEEK, partial=True)
    some = type(weeks)(*(part[:200] for part in weeks))
    training = sample_weeks(WEEK, "generator", 50, 8)
    top = hindsight(shared, some)
    for policy in (
        FirstCome(shared),
        DensityThreshold(shared, tune_density(shared, training, 10)),
        PacedDensity(shared, 2.0, 1.0),
        DynamicProgramme(shared, 200),
    ):
        each = rollout(shared, some, policy)
        assert each.actions.dtype == np.float32
        assert (each.returns <= top.bound_usd).all()
    assert each.returns.mean() > 0.9 * top.bound_usd.mean()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda m: DensityThreshold(m, -1.0), "price"),
        (lambda m: DensityThreshold(m, float("nan")), "price"),
        (lambda m: PacedDensity(m, 1.0, -1.0), "pace"),
        (lambda m: DynamicProgramme(m, 0), "grid"),
        (lambda m: DynamicProgramme(m, solved=solve_week(WEEK.replace(week_days=3), 10)), "days and drivers"),
        (lambda m: solve_week(m, 10, "sideways"), "rounding"),
        (lambda m: tune_density(m, sample_weeks(WEEK, "generator", 1, 1), 0), "count"),
        (lambda m: tune_paced(m, sample_weeks(WEEK, "generator", 1, 1), 3, ()), "paces"),
    ],
)
def test_bad_arguments_are_refused_by_name(model, make, named):
    with pytest.raises(InvalidInputError, match=named):
        make(model)
