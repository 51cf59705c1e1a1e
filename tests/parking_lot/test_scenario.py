"""Scenarios against the definitions: which steps a car counts in, K and P, bays, laws, noise."""

import copy
import math
import pickle

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.market import ar_factors, load_profile, pv_profile
from v2g_env.core.validate import InvalidInputError
from v2g_env.data.splits import DaySessions
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import draw_from, law, law_of, sample, sample_capacity

FIT = "jpl-2019/fit"
LOT = Instance(bays=8, open_h=8.0, close_h=14.0, headroom_low_kwh=6.0, headroom_high_kwh=6.0)


def days_of(*days, name="made"):
    """Days of (arrival, departure, stated, energy) in clock hours and kWh; the last two may be left out."""
    rows = [(*car, math.nan, 0.0)[:4] if len(car) < 4 else car for day in days for car in sorted(day)]
    columns = np.array(rows, dtype=float).reshape(-1, 4).T.copy()
    offset = np.cumsum([0, *(len(day) for day in days)])
    return DaySessions(name, tuple(f"2019-01-{i + 1:02d}" for i in range(len(days))), offset, *columns)


def replay(lot, *days, n=1, seed=1):
    return sample(lot, law_of(days_of(*days), "days"), n, seed)


def cars(scenario, i=0):
    """Accepted sessions of row i as plain dicts."""
    names = ("arrive", "depart", "stated", "quota_kwh", "cap_kwh", "charger_kw", "bay")
    return [{name: getattr(scenario, name)[i, k].item() for name in names} for k in range(int(scenario.sessions[i]))]


def capacity_by_definition(sessions, steps, head):
    """K_t = sum of head over those there at t and at t + 1; P_t = sum of limits of those there at t."""
    energy, power = [], []
    for t in range(steps):
        here = [c for c in sessions if c["arrive"] <= t < c["depart"]]
        energy.append(math.fsum(c[head] for c in here if t + 1 < c["depart"]))
        power.append(math.fsum(c["charger_kw"] for c in here))
    return [*energy, 0.0], [*power, 0.0]


# Which steps a car counts in


@pytest.mark.parametrize(
    ("arrival", "departure", "steps"),
    [
        (8.0, 10.0, (0, 2)),
        (8.01, 10.0, (1, 2)),  # arrival rounded up
        (8.0, 9.99, (0, 1)),  # departure rounded down
        (8.5, 10.5, (1, 2)),
        (8.999, 11.001, (1, 3)),
        (9.0, 10.0, (1, 2)),  # exactly one step
        (6.0, 10.0, (0, 2)),  # there before opening
        (6.2, 8.99, None),
        (8.0, 30.0, (0, 6)),  # beyond closing
        (12.5, 14.0, (5, 6)),
        (13.01, 20.0, None),
        (14.0, 20.0, None),
        (5.0, 8.0, None),
        (9.2, 10.1, None),  # almost one hour, but never plugged in during a whole step
        (9.01, 10.99, None),
    ],
)
def test_arrival_is_rounded_up_and_departure_down(arrival, departure, steps):
    scenario = replay(LOT, [(arrival, departure)])
    found = [(c["arrive"], c["depart"]) for c in cars(scenario)]
    assert found == ([] if steps is None else [steps])
    assert scenario.turned_away[0] == 0


@given(arrival=st.floats(4, 20), stay=st.floats(0, 0.999), step_h=st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_stay_shorter_than_a_step_never_counts(arrival, stay, step_h):
    lot = LOT.replace(step_h=step_h)
    scenario = replay(lot, [(arrival, arrival + stay * step_h - 1e-6)])
    assert scenario.sessions[0] == 0
    assert not scenario.capacity_kwh.any()
    assert not scenario.power_kw.any()


def test_clock_times_on_the_grid_are_exact_in_fine_steps():
    lot = LOT.replace(step_h=0.1)  # multiples of 0.1 are no binary numbers
    for k in range(1, 50):
        (car,) = cars(replay(lot, [(8.0 + 0.1 * k, 8.0 + 0.1 * (k + 3))]))
        assert (car["arrive"], car["depart"]) == (k, k + 3)


# K and P


def test_capacity_and_power_by_hand():
    # quota = min(6, 0.95 x 10 x 1) = 6 kWh; with 5 kW chargers 4.75 kWh
    scenario = replay(LOT, [(8.0, 11.0), (9.5, 14.0), (13.0, 14.0)])
    np.testing.assert_allclose(scenario.capacity_kwh[0], [6, 6, 6, 6, 6, 0, 0])
    np.testing.assert_allclose(scenario.power_kw[0], [10, 10, 20, 10, 10, 20, 0])
    weak = replay(LOT.replace(charger_kw=5), [(8.0, 11.0), (9.5, 14.0), (13.0, 14.0)])
    np.testing.assert_allclose(weak.capacity_kwh[0], [4.75, 4.75, 4.75, 4.75, 4.75, 0, 0])
    np.testing.assert_allclose(weak.full_kwh[0], [6, 6, 6, 6, 6, 0, 0])
    np.testing.assert_allclose(weak.power_kw[0], [5, 5, 10, 5, 5, 10, 0])
    quarter = replay(LOT.replace(step_h=0.25), [(8.0, 11.0)])
    np.testing.assert_allclose(quarter.capacity_kwh[0], [2.375] * 11 + [0] * 14)


@given(
    day=st.lists(st.tuples(st.floats(5, 15), st.floats(0, 9)), min_size=1, max_size=15),
    bays=st.integers(1, 12),
    charger_kw=st.floats(1, 20),
    spread=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_capacity_power_quota_and_bays_follow_the_definitions(day, bays, charger_kw, spread, seed):
    lot = LOT.replace(bays=bays, charger_kw=charger_kw, charger_spread=spread, headroom_high_kwh=25.0)
    day = [(a, a + stay) for a, stay in day]
    scenario = replay(lot, day, seed=seed)
    got = cars(scenario)
    wanted = []
    for arrival, departure in sorted(day):
        a, d = max(0, math.ceil(arrival - 8 - 1e-9)), min(6, math.floor(departure - 8 + 1e-9))
        if d > a:
            wanted.append((a, d))
    # first come, first served: a car is turned away when and only when all bays are taken by earlier cars
    accepted = []
    for a, d in wanted:
        if sum(b <= a < e for b, e in accepted) < bays:
            accepted.append((a, d))
    assert [(c["arrive"], c["depart"]) for c in got] == accepted
    assert scenario.turned_away[0] == len(wanted) - len(accepted)
    for i, c in enumerate(got):
        assert 0 <= c["bay"] < bays
        assert 6.0 <= c["cap_kwh"] <= 25.0
        assert charger_kw * (1 - spread) - 1e-9 <= c["charger_kw"] <= charger_kw * (1 + spread) + 1e-9
        assert c["quota_kwh"] == pytest.approx(min(c["cap_kwh"], 0.95 * c["charger_kw"]))
        for other in got[:i]:
            if other["bay"] == c["bay"]:
                assert c["arrive"] >= other["depart"] or other["arrive"] >= c["depart"]
    for head, column in (("quota_kwh", scenario.capacity_kwh), ("cap_kwh", scenario.full_kwh)):
        energy, power = capacity_by_definition(got, 6, head)
        np.testing.assert_allclose(column[0], energy, atol=1e-9)
        np.testing.assert_allclose(scenario.power_kw[0], power, atol=1e-9)


@pytest.mark.parametrize("bays", [1, 20, 52])
@pytest.mark.parametrize("own_charging", [False, True])
def test_generated_days_never_book_a_bay_twice(bays, own_charging):
    lot = Instance(bays=bays, own_charging=own_charging, charger_spread=0.3)
    scenario = sample(lot, law("generator"), 200, 3)
    busy = np.zeros((200, bays, lot.steps + 1), int)
    for i in range(200):
        sessions = cars(scenario, i)
        for c in sessions:
            busy[i, c["bay"], c["arrive"] : c["depart"]] += 1
        for head, column in (("quota_kwh", scenario.capacity_kwh), ("cap_kwh", scenario.full_kwh)):
            energy, power = capacity_by_definition(sessions, lot.steps, head)
            np.testing.assert_allclose(column[i], energy, atol=1e-9)
            np.testing.assert_allclose(scenario.power_kw[i], power, atol=1e-9)
    assert busy.max() == 1
    assert (scenario.full_kwh >= scenario.capacity_kwh).all()
    assert (scenario.capacity_kwh[:, -2:] == 0.0).all()  # nobody stays beyond the last step


def test_turned_away_cars_leave_no_trace():
    crowd = [(8.0 + 0.01 * i, 12.5) for i in range(1, 9)]
    full = replay(LOT.replace(bays=3), crowd)
    assert (full.sessions[0], full.turned_away[0]) == (3, 5)
    assert full.power_kw[0].max() == 30.0
    few = replay(LOT.replace(bays=3), crowd[:3])
    np.testing.assert_array_equal(full.capacity_kwh, few.capacity_kwh)


def test_bay_is_free_again_in_the_step_after_departure():
    scenario = replay(LOT.replace(bays=1), [(8.0, 10.0), (9.9, 12.0), (9.95, 12.0)])
    assert [(c["arrive"], c["depart"], c["bay"]) for c in cars(scenario)] == [(0, 2, 0), (2, 4, 0)]
    assert scenario.turned_away[0] == 1


def test_silent_driver_is_taken_to_stay_to_the_end_and_statements_are_kept():
    got = cars(replay(LOT, [(8.0, 11.0, 12.5, 3.0), (9.0, 11.0, math.nan, 3.0), (10.0, 13.0, 9.0, 3.0)]))
    assert [c["stated"] for c in got] == [4.5, 6.0, 1.0]


@pytest.mark.parametrize("rule", DISPATCH_RULES)
def test_dispatch_order_is_a_permutation_sorted_by_the_rule(rule):
    lot = Instance(dispatch=rule, charger_spread=0.2)
    scenario = sample(lot, law("generator"), 50, 3)
    for i in range(50):
        got = cars(scenario, i)
        order = scenario.order[i, : len(got)].tolist()
        assert sorted(order) == list(range(len(got)))
        if rule == "least_laxity":  # time left minus time needed to give everything back
            slack = [c["stated"] - lot.efficiency * c["quota_kwh"] / (c["charger_kw"] * lot.step_h) for c in got]
        else:
            slack = [c["stated"] for c in got]
        sorted_slack = [slack[k] for k in order]
        assert all(a >= b - 1e-12 for a, b in zip(sorted_slack, sorted_slack[1:], strict=False))


# Own charging


def test_own_charging_delays_a_car_by_its_energy_at_full_power():
    lot = LOT.replace(own_charging=True)
    got = cars(replay(lot, [(8.0, 14.0, 14.0, 0.0), (8.0, 14.0, 14.0, 15.0), (8.0, 14.0, 14.0, 20.0)]))
    assert [c["arrive"] for c in got] == [0, 2, 2]
    assert cars(replay(lot, [(8.0, 10.0, 10.0, 20.0)])) == []


@pytest.mark.parametrize("name", ["generator", f"days:{FIT}"])
def test_own_charging_only_reduces_capacity_in_a_lot_with_room(name):
    plain = sample(Instance(bays=200), law(name), 300, 5)
    own = sample(Instance(bays=200, own_charging=True), law(name), 300, 5)
    assert not plain.turned_away.any()
    assert (own.capacity_kwh <= plain.capacity_kwh + 1e-9).all()
    assert own.capacity_kwh.sum() < 0.95 * plain.capacity_kwh.sum()


@pytest.mark.parametrize("bays", [5, 52])
def test_own_charging_only_reduces_capacity_in_a_crowded_lot(bays):
    """A car that charges for itself occupies its bay meanwhile, so nobody else gets in because of it."""
    plain = sample(Instance(bays=bays), law("generator"), 300, 5)
    own = sample(Instance(bays=bays, own_charging=True), law("generator"), 300, 5)
    assert plain.turned_away.any()
    assert (own.capacity_kwh <= plain.capacity_kwh + 1e-9).all()


def test_charging_car_occupies_its_bay():
    lot = LOT.replace(bays=1, own_charging=True)
    scenario = replay(lot, [(8.0, 12.0, 12.0, 20.0), (8.5, 14.0, 14.0, 0.0)])
    assert [(c["arrive"], c["depart"]) for c in cars(scenario)] == [(2, 4)]
    assert scenario.turned_away[0] == 1


# Batches, seeds, laws


def test_row_depends_on_its_own_generator_alone():
    lot = Instance()
    seeds = [3, 1, 4, 1, 5]
    many = draw_from(lot, law("generator"), [np.random.default_rng(s) for s in seeds])
    for i, s in enumerate(seeds):
        alone = draw_from(lot, law("generator"), [np.random.default_rng(s)])
        for one, column in zip(alone, many, strict=True):
            np.testing.assert_array_equal(one[0], column[i])


def test_draw_consumes_the_same_noise_whatever_the_day_or_the_law_decides():
    lot = Instance()
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    free = draw_from(lot, law("generator"), [a])
    fixed = draw_from(lot, law("generator"), [b], [int(free.day[0])])
    assert a.bit_generator.state == b.bit_generator.state
    for one, other in zip(free, fixed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sample_is_reproducible_and_long_samples_repeat_nothing():
    lot = Instance()
    a, b = (sample(lot, law("generator"), 2100, 5) for _ in range(2))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
        assert len(one) == 2100
    assert len(np.unique(a.pv_factor[:, 0])) == 2100
    assert len(np.unique(a.capacity_kwh.round(9), axis=0)) == 2100


def test_samples_of_different_seeds_are_independent():
    lot = Instance()
    totals = np.array([sample(lot, law("generator"), 1000, seed).capacity_kwh.sum(axis=1) for seed in range(6)])
    offers = np.array([sample(lot, law("generator"), 1000, seed).pv_factor[:, 5] for seed in range(6)])
    for values in (totals, offers):
        correlation = np.corrcoef(values)[np.triu_indices(6, 1)]
        assert np.abs(correlation).max() < 4.0 / math.sqrt(1000)
        assert len(np.unique(values)) == values.size


@pytest.mark.parametrize("seed", [0, 5, 2**40])
def test_no_sample_shares_its_stream_with_an_environment_of_the_same_seed(seed):
    """A policy trained in environments seeded 0, 1, ... must not meet its training days in a test sample."""
    env = gymnasium.make("V2G/ParkingLot-v0").unwrapped
    env.reset(seed=seed)
    trained = env.get_state()["scenario"]
    for n in (1, 3):
        tested = sample(Instance(), law("generator"), n, seed)
        assert (np.abs(tested.capacity_kwh - trained.capacity_kwh).max(axis=1) > 1.0).all()
        assert (tested.pv_factor[:, 0] != trained.pv_factor[0, 0]).all()


def test_streams_of_a_sample_and_of_its_smoothing_differ():
    lot = Instance()
    smooth = sample_capacity(lot, law("smoothed"), 500, 5)
    plain = sample_capacity(lot, law("generator"), 500, 5)
    added = smooth.energy_kwh - plain.energy_kwh
    assert added.min() >= 0.0
    assert added.max() <= lot.energy_scale_kwh
    assert added.mean() == pytest.approx(5.0, abs=0.2)
    assert ((smooth.power_kw - plain.power_kw) <= lot.charger_kw).all()
    assert smooth.sha256 != plain.sha256
    assert plain.sha256 == sample_capacity(lot, law("generator"), 500, 5).sha256


def test_both_quotas_of_sample_capacity():
    lot = Instance()
    scenario = sample(lot, law("generator"), 40, 5)
    narrow, full = (sample_capacity(lot, law("generator"), 40, 5, q) for q in ("executable", "full"))
    np.testing.assert_array_equal(narrow.energy_kwh, scenario.capacity_kwh[:, :-1])
    np.testing.assert_array_equal(full.energy_kwh, scenario.full_kwh[:, :-1])
    np.testing.assert_array_equal(full.power_kw, narrow.power_kw)
    with pytest.raises(InvalidInputError, match="quota"):
        sample_capacity(lot, law("generator"), 4, 5, "half")


def test_days_law_takes_every_day_in_turn_as_it_is():
    days = [[(8.0, 9.0 + i)] for i in range(1, 5)]
    scenario = replay(LOT, *days, n=10)
    assert scenario.day.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert scenario.depart[:, 0].tolist() == [2, 3, 4, 5, 2, 3, 4, 5, 2, 3]
    assert sample(LOT, law_of(days_of(*days), "days"), 3, 1, [2, 2, 0]).day.tolist() == [2, 2, 0]


def test_days_law_keeps_the_sessions_of_the_real_days():
    source = law(f"days:{FIT}")
    lot = Instance(bays=200)
    scenario = sample(lot, source, 96, 1)
    for i in range(96):
        rows = slice(source.days.offset[i], source.days.offset[i + 1])
        wanted = []
        for arrival, departure in zip(source.days.arrival_h[rows], source.days.departure_h[rows], strict=True):
            a, d = max(0, math.ceil(arrival - 7 - 1e-9)), min(13, math.floor(departure - 7 + 1e-9))
            if d > a:
                wanted.append((a, d))
        assert [(c["arrive"], c["depart"]) for c in cars(scenario, i)] == wanted


def test_bad_laws_days_and_samples_are_refused():
    for name in ("", "generators", "generator:mars", "days", "days:", "smoothed:jpl"):
        with pytest.raises(InvalidInputError):
            law(name)
    for n, seed in ((0, 1), (-1, 1), (1.5, 1), (True, 1), (1, -1), (1, 0.5)):
        with pytest.raises(InvalidInputError):
            sample(LOT, law("generator"), n, seed)
    for day in (-1, 96, 0.0, True, None):
        with pytest.raises(InvalidInputError, match="day"):
            sample(LOT, law("generator"), 1, 1, [day])


def test_unknown_kind_of_law_is_refused_for_own_days_too():
    with pytest.raises(InvalidInputError, match="generated"):
        law_of(days_of([(8.0, 9.0)]), "generated")


@pytest.mark.parametrize("days", [[], [0], [0, 1, 2, 3]])
def test_number_of_days_must_be_the_number_of_rows(days):
    with pytest.raises(InvalidInputError, match="day"):
        sample(LOT, law("generator"), 2, 1, days)
    with pytest.raises(InvalidInputError, match="day"):
        draw_from(LOT, law("generator"), [np.random.default_rng(s) for s in range(2)], days)


def test_smoothed_law_is_refused_by_the_model():
    with pytest.raises(InvalidInputError, match="law"):
        Model(Instance(), "smoothed")
    with pytest.raises(InvalidInputError, match="law"):
        Model(Instance(), law(f"smoothed:{FIT}"))


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copied_law_keeps_its_days_read_only(twin_of):
    """And so needs no second compilation of the loops, whose types include it."""
    days = twin_of(law("generator")).days
    for column in (days.offset, days.arrival_h, days.departure_h, days.stated_h, days.energy_kwh):
        assert not column.flags.writeable


# The generator against the days it was fitted to


@pytest.fixture(scope="module")
def generated():
    return sample(Instance(bays=300), law("generator"), 6000, 17)


@pytest.fixture(scope="module")
def real():
    return sample(Instance(bays=300), law(f"days:{FIT}"), 96, 18)


QUANTITIES = {
    "arrival": lambda s, i, k: s.arrive[i, :k],
    "stay": lambda s, i, k: s.depart[i, :k] - s.arrive[i, :k],
    "departure": lambda s, i, k: s.depart[i, :k],
    "stated stay": lambda s, i, k: s.stated[i, :k] - s.arrive[i, :k],
    "stated minus true departure": lambda s, i, k: s.stated[i, :k] - s.depart[i, :k],
    "sessions": lambda s, i, k: s.sessions[i : i + 1],
}


def by_day(scenario, quantity):
    return [QUANTITIES[quantity](scenario, i, int(scenario.sessions[i])) for i in range(len(scenario.day))]


def ks(a, b):
    """Largest distance between two empirical distribution functions."""
    a, b = np.sort(a), np.sort(b)
    grid = np.concatenate([a, b])
    return np.abs(np.searchsorted(a, grid, "right") / len(a) - np.searchsorted(b, grid, "right") / len(b)).max()


@pytest.mark.parametrize("quantity", [q for q in QUANTITIES if q != "sessions"])
def test_generator_is_closer_to_its_days_than_another_draw_of_such_days_would_be(generated, real, quantity):
    """Distance within the .95 quantile of that between the days and bootstrap samples of whole days."""
    days = by_day(real, quantity)
    together = np.concatenate(days)
    rng = np.random.default_rng(2)
    other = [ks(np.concatenate([days[j] for j in rng.integers(0, 96, 96)]), together) for _ in range(200)]
    distance = ks(np.concatenate(by_day(generated, quantity)), together)
    assert distance <= max(np.quantile(other, 0.95), 0.01)


def test_generator_reproduces_sessions_per_day(generated, real):
    """Dropping and mixing keep the mean (.9 m + .1 m) and add binomial noise to the spread."""
    a, b = generated.sessions, real.sessions
    error = math.hypot(a.std() / math.sqrt(6000), 0.2)  # common shifts move some short stays in or out
    assert abs(a.mean() - b.mean()) <= 4.0 * error
    noise = 2 * 0.1 * 0.9 * b.mean()
    assert a.var() == pytest.approx((0.9**2 + 0.1**2) * b.var() + noise, rel=0.15)


def test_generator_reproduces_mean_capacity_and_power(generated, real):
    """Within 1.5 % of the peak at every step, and within the fitting days' own sampling error."""
    for name in ("capacity_kwh", "power_kw"):
        a, b = getattr(generated, name)[:, :13], getattr(real, name)[:, :13]
        bias = np.abs(a.mean(axis=0) - b.mean(axis=0))
        assert bias.max() <= 0.015 * b.mean(axis=0).max()
        assert (bias <= 4.0 * b.std(axis=0) / math.sqrt(96) + 1e-9).all()


def test_generator_keeps_the_capacity_profile_of_cars_that_charge_for_themselves():
    """The energy each session needs is drawn with it."""
    lot = Instance(bays=300, own_charging=True)
    a = sample(lot, law("generator"), 3000, 17).capacity_kwh[:, :13]
    b = sample(lot, law(f"days:{FIT}"), 96 * 4, 18).capacity_kwh[:, :13]
    assert np.abs(a.mean(axis=0) - b.mean(axis=0)).max() <= 0.02 * b.mean(axis=0).max()


def test_generator_is_no_replay(generated):
    source = law("generator")
    assert source.arrival_shift_h > 0.0
    assert source.departure_shift_h > 0.0
    first = generated.capacity_kwh[generated.day == 0]
    assert len(np.unique(first.round(6), axis=0)) == len(first) > 20


def test_generator_of_one_day_without_dropping_or_mixing_is_that_day():
    day = [(8.0, 11.0, 12.0, 1.0), (9.0, 13.0, 13.0, 1.0)]
    lot = LOT.replace(drop_fraction=0.0, mix_fraction=0.0)
    a = sample(lot, law_of(days_of(day), "generator"), 5, 1)
    np.testing.assert_array_equal(a.capacity_kwh, np.repeat(replay(lot, day).capacity_kwh, 5, axis=0))


def test_dropping_and_mixing_have_the_frequencies_of_the_instance():
    day = [(8.0 + 0.001 * i, 14.0, 14.0, 0.0) for i in range(30)]
    source = law_of(days_of(day), "generator")
    lot = LOT.replace(bays=60, open_h=9.0)  # all there at opening
    n = 3000
    for drop, mix in ((0.1, 0.1), (0.5, 0.0), (0.0, 0.3), (1.0, 1.0)):
        count = sample(lot.replace(drop_fraction=drop, mix_fraction=mix), source, n, 4).sessions
        spread = math.sqrt(30 * (drop * (1 - drop) + mix * (1 - mix)))
        assert abs(count.mean() - 30 * (1 - drop + mix)) <= 4 * spread / math.sqrt(n)
        assert count.std() == pytest.approx(spread, rel=0.08, abs=1e-12)


def test_common_shifts_move_all_cars_of_a_day_together():
    # two days, one hour apart: 1.06 x sd(8.5, 9.5) x 2^-0.2
    days = [[(8.0, 12.0), (9.0, 13.0)], [(9.0, 12.0), (10.0, 13.0)]]
    source = law_of(days_of(*days))
    assert source.arrival_shift_h == pytest.approx(1.06 * math.sqrt(0.5) * 2**-0.2)
    assert source.departure_shift_h == 0.0
    lot = LOT.replace(step_h=0.05, open_h=4.0, drop_fraction=0.0, mix_fraction=0.0)
    scenario = sample(lot, source, 200, 3)
    both = scenario.sessions == 2
    assert both.mean() > 0.9
    gap = (scenario.arrive[both, 1] - scenario.arrive[both, 0]) * 0.05
    np.testing.assert_allclose(gap, 1.0, atol=0.0501)
    start = 4.0 + 0.05 * scenario.arrive[both, 0] - 8.0 - scenario.day[both]
    assert start.std() == pytest.approx(source.arrival_shift_h, rel=0.15)


def test_headroom_and_charger_limits_are_uniform_and_independent():
    scenario = sample(Instance(bays=300, charger_spread=0.3), law("generator"), 300, 5)
    used = np.arange(scenario.cap_kwh.shape[1]) < scenario.sessions[:, None]
    cap, limit = (scenario.cap_kwh[used] - 3.0) / 22.0, (scenario.charger_kw[used] / 10.0 - 0.7) / 0.6
    n = used.sum()
    for values in (cap, limit):
        assert ks(values, (np.arange(100_000) + 0.5) / 100_000) <= 1.95 / math.sqrt(n)
    assert abs(np.corrcoef(cap, limit)[0, 1]) <= 4.0 / math.sqrt(n)


# Offers


def test_profiles_by_hand():
    hours = np.array([0.0, 5.9, 6.0, 8.0, 12.0, 17.0, 18.0, 23.0])
    pv = pv_profile(hours, 300.0)
    np.testing.assert_allclose(pv[[0, 1, 2, 6, 7]], 0.0, atol=1e-12)
    assert pv[4] == pytest.approx(300.0)
    assert pv[3] == pytest.approx(300.0 * 0.5**1.5)
    load = load_profile(hours, 110.0, 140.0, 40.0)
    assert load[5] == pytest.approx(110 + 140 + 40 * math.exp(-((9 / 2) ** 2)))
    assert load[3] == pytest.approx(110 + 140 * math.exp(-((9 / 2.5) ** 2)) + 40)


@pytest.mark.parametrize("step_h", [0.25, 1.0])
def test_factors_have_mean_one_the_stated_spread_and_hourly_memory(step_h):
    lot = Instance(step_h=step_h, pv_sd=0.3, load_sd=0.15, factor_memory=0.8)
    n = 20_000
    scenario = sample(lot, law("generator"), n, 6)
    hour = round(1 / step_h)
    for factors, sd in ((scenario.pv_factor[:, :-1], 0.3), (scenario.load_factor[:, :-1], 0.15)):
        error = factors.std(axis=0) / math.sqrt(n)
        assert (np.abs(factors.mean(axis=0) - 1.0) <= 4.5 * error).all()
        logs = np.log(factors) + sd**2 / 2
        np.testing.assert_allclose(logs.std(axis=0), sd, rtol=0.03)
        for t in (0, lot.steps - hour - 1):
            assert np.corrcoef(logs[:, t], logs[:, t + hour])[0, 1] == pytest.approx(0.8, abs=0.015)
    cross = np.corrcoef(scenario.pv_factor[:, 3], scenario.load_factor[:, 3])[0, 1]
    assert abs(cross) <= 4.0 / math.sqrt(n)
    parked = np.corrcoef(scenario.pv_factor[:, 3], scenario.capacity_kwh[:, 3])[0, 1]
    assert abs(parked) <= 4.0 / math.sqrt(n)


def test_factors_follow_the_recursion_and_are_cut_at_five_deviations():
    rng = np.random.default_rng(1)
    normals = rng.standard_normal((3, 6))
    normals[1, 0], normals[2, 2] = 40.0, -40.0
    got = ar_factors(normals, 0.8, 0.3)
    for i in range(3):
        log = normals[i, 0]
        for t in range(6):
            if t > 0:
                log = 0.8 * log + 0.6 * normals[i, t]
            assert got[i, t] == pytest.approx(math.exp(0.3 * min(max(log, -5), 5) - 0.045))


def test_offers_are_the_net_of_factors_and_profiles_and_never_both():
    lot = Instance()
    scenario = sample(lot, law("generator"), 500, 6)
    assert (scenario.surplus_kw * scenario.deficit_kw == 0.0).all()
    assert (scenario.surplus_kw >= 0.0).all()
    assert (scenario.deficit_kw >= 0.0).all()
    hours = lot.hours
    net = scenario.pv_factor[:, :-1] * 300 * np.maximum(np.sin(np.pi * (hours - 6) / 12), 0) ** 1.5
    net -= scenario.load_factor[:, :-1] * load_profile(hours, 110, 140, 40)
    net[:, hours > 18] = -(scenario.load_factor[:, :-1] * load_profile(hours, 110, 140, 40))[:, hours > 18]
    np.testing.assert_allclose((scenario.surplus_kw - scenario.deficit_kw)[:, :-1], net, atol=1e-9)
    assert (scenario.surplus_kw > 0).any()
    assert (scenario.deficit_kw > 0).any()
    for column in (scenario.surplus_kw, scenario.deficit_kw, scenario.pv_factor, scenario.load_factor):
        assert column.shape == (500, 14)
        assert not column[:, -1].any()


def test_factors_without_spread_are_one():
    scenario = sample(Instance(pv_sd=0.0, load_sd=0.0), law("generator"), 5, 6)
    assert (scenario.pv_factor[:, :-1] == 1.0).all()
    assert (scenario.load_factor[:, :-1] == 1.0).all()
