"""Certificates of schedules: they hold as written, and nothing in them can be changed without being refused."""

import copy
import json
import math
import time

import numpy as np
import pytest

from baselines.certificate import CertificateError, check, load, pack, save, unpack
from baselines.duality import linear_bound
from baselines.scheduling.day import Day, Protection, known_day, known_wind_day
from baselines.scheduling.linear import certify, optimise, solve
from baselines.scheduling.plan import energies, measure
from baselines.scheduling.program import Task, build
from v2g_env.core.uncertainty import budget_bound
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import gas_scale, sample

LOT = Instance(
    steps=6,
    step_h=1.0,
    start_h=17.0,
    aggregator_bus=(1, 2, 2),
    turbine_bus=(2, 1),
    line_from=(0, 1),
    line_to=(1, 2),
    line_limit_kw=(170.0, 78.0),
    load_peak_kw=150.0,
    load_shares=(0.5, 0.3, 0.2),
    load_deviation=0.1,
    cars=9,
    arrival_h=(17.5, 0.5),
    departure_h=(21.5, 0.5),
    soc_wanted=0.7,
    gas_max_kw=200.0,
    gas_ramp_kw=90.0,
    gas_segments=8,
    turbine_kw=60.0,
    calibrated_usd=100.0,
    reserve_share=0.66,
)
CASES = {
    "hard": (Protection(), "cost", False),
    "soft": (Protection(), "cost", True),
    "budget": (Protection("budget", 1.5), "cost", False),
    "wind": (Protection("ellipsoid", 0.8, wind=True), "renewable", False),
    "peak": (Protection("budget", 1.0), "peak", False),
    "deviation": (Protection("box-ellipsoid", 1.2), "deviation", False),
}
MADE = {}


def made(name):
    """A fresh copy of a case's certificate, as read back from JSON."""
    if name not in MADE:
        protection, objective, soft = CASES[name]
        drawn = sample(LOT, "generator", 1, 6)
        day = known_day(Model(LOT), drawn, 0) if soft else known_wind_day(Model(LOT), drawn, 0)
        if protection.wind:
            day = day._replace(wind_half_kw=0.1 * day.wind_kw)
        MADE[name] = json.dumps(solve(LOT, day, protection, objective, soft=soft).certificate, allow_nan=False)
    return json.loads(MADE[name])


def refused(certificate, instance=None, text="."):
    with pytest.raises(CertificateError, match=text) as caught:
        check(certificate, instance)
    assert len(str(caught.value)) < 2000
    return str(caught.value)


def changed(name, path, value):
    """Certificate with one entry replaced; ``value`` may be a function of the old one."""
    found = made(name)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value(place[path[-1]]) if callable(value) else value
    return found


@pytest.mark.parametrize("name", CASES)
def test_certificates_hold_with_and_without_the_instance_and_survive_files(name, tmp_path):
    save(made(name), tmp_path / "one.json")
    for instance in (None, LOT):
        report = check(load(tmp_path / "one.json"), instance)
        assert report.kind == "schedule"
        assert len(report.claims) == 2 + ("violation_bound" in report.values)
        assert report.values["bound"] <= report.values["value"] + 1e-9
        assert CASES[name][1] == "deviation" or report.values["gap"] < 1e-4
    assert made(name)["value"] == report.values["value"]


@pytest.mark.parametrize("alpha", [0.0, 0.8, 1.0, 2.0, 3.0])
def test_the_promised_violation_is_bertsimas_and_sims_and_simulated_loads_keep_it(alpha):
    lot = LOT.replace(reserve_share=0.1, line_limit_kw=(500.0, 500.0))
    day = known_wind_day(Model(lot), sample(lot, "generator", 1, 1), 0)
    found = solve(lot, day, Protection("budget", alpha))
    promised = check(found.certificate, lot).values["violation_bound"]
    homes = lot.aggregators
    assert promised == (0.0 if alpha >= homes else min(float(budget_bound(homes, alpha)), 0.5))
    use = day.load_kw.sum(axis=1) + found.plan.car_kw.sum(axis=1)
    spare = found.plan.gas_kw + day.wind_kw.sum(axis=1) - use
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (20_000, lot.steps, homes))
    broken = (np.einsum("nta,ta->nt", signs, day.load_half_kw) > spare + 1e-9).mean(axis=0)
    assert broken.max() <= promised + 4.0 * np.sqrt(0.25 / len(signs))


def test_some_cases_need_rows_of_lines_and_of_reserves():
    assert any(len(unpack(made(name)["lines"])) for name in CASES)
    assert any(len(unpack(made(name)["reserves"])) for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_certificate_of_another_instance_is_refused(name):
    other = LOT.replace(gas_linear=0.11)
    refused(made(name), other, "instance = ")
    forged = made(name)
    forged["instance"] = other.to_dict()
    refused(forged, None, "instance = ")
    forged["instance_sha256"] = other.hash  # a claim about the other instance that is not true of it
    if CASES[name][1] == "cost":
        refused(forged, other, "value|bound|cost_usd")
    refused(forged, LOT, "instance = ")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("field", ["value", "bound", "cost_usd"])
def test_a_claimed_number_that_is_off_in_the_seventh_digit_is_refused(name, field):
    for factor in (1.0 + 1e-7, 1.0 - 1e-7):
        refused(changed(name, [field], lambda old, f=factor: old * f), LOT, field)
    for value in (math.nan, math.inf, None, "1", True, [1.0], 10**400):
        refused(changed(name, [field], value), LOT)


@pytest.mark.parametrize("name", CASES)
def test_another_plan_is_refused(name):
    rng = np.random.default_rng(0)
    there = np.argwhere(unpack(made(name)["plan"]["car_kw"]) != 0.0)
    for part, spots in (("gas_kw", range(LOT.steps)), ("car_kw", there[rng.permutation(len(there))[:6]])):
        for spot in spots:
            for size in (1e-3, -1e-3):

                def moved(old, spot=spot, size=size):
                    values = unpack(old).copy()
                    values[tuple(np.atleast_1d(spot))] += size
                    return pack(values)

                refused(changed(name, ["plan", part], moved), LOT)


@pytest.mark.parametrize("name", CASES)
def test_other_multipliers_are_taken_only_with_their_own_bound(name):
    def moved(old):
        values = unpack(old).copy()
        values[np.argmax(np.abs(values))] *= 1.01
        return pack(values)

    refused(changed(name, ["dual"], moved), LOT, "bound")
    weaker = changed(name, ["dual"], moved)
    weaker["bound"] = bound_of(weaker)
    report = check(weaker, LOT)
    assert report.values["bound"] < made(name)["bound"]
    assert report.values["gap"] > made(name)["value"] - made(name)["bound"]


def bound_of(found):
    """The bound of a certificate's multipliers, computed beside the check."""
    fields = {key: value if key == "gas_kw" else unpack(value) for key, value in found["day"].items()}
    task = Task(Day(**fields), Protection(**found["protection"]), found["objective"], found["soft"], gas_scale(LOT))
    program = build(LOT, task, *(unpack(found[name]) for name in ("groups", "lines", "reserves")))
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    return -linear_bound(*parts, unpack(found["dual"]))


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["kind"], "plan", "kind"),
        (["kind"], None, "kind"),
        (["problem"], "parking_lot", "."),
        (["format"], "v2g-env certificate 2", "format"),
        (["objective"], "profit", "objective"),
        (["objective"], ["cost"], "objective"),
        (["objective"], "peak", "value"),
        (["soft"], 1, "soft"),
        (["soft"], True, "protection = 'budget'"),
        (["protection", "kind"], "cone", "kind of protection"),
        (["protection", "kind"], ["box"], "kind of protection"),
        (["protection", "level"], 3.01, "alpha"),
        (["protection", "level"], math.nan, "alpha"),
        (["protection", "level"], "1.5", "alpha"),
        (["protection", "level"], 2.5, "balance|line"),
        (["protection", "wind"], 1, "protection"),
        (["protection"], {"kind": "none", "level": 0.0}, "protection"),
        (["protection"], ["none", 0.0, False], "protection"),
        (["day", "gas_kw"], 1000.0, "gas_kw"),
        (["day", "gas_kw"], "80", "gas_kw"),
        (["day", "gas_kw"], math.nan, "gas_kw"),
        (["day", "wind_kw"], pack(np.zeros((6, 2))), "."),
        (["day", "load_kw"], pack(np.zeros((2, 6))), "shape of load_kw"),
        (["day", "load_kw"], pack(np.full((6, 3), np.nan)), "load_kw"),
        (["day", "load_kw"], pack(np.full((6, 3), -1.0)), "load_kw"),
        (["day", "load_kw"], pack(np.full((6, 3), 1e308)), "load_kw"),
        (["day", "load_kw"], pack(np.ones((6, 3), np.float32)), "dtype of load_kw"),
        (["day", "arrive"], pack(np.zeros(9)), "dtype of arrive"),
        (["day", "depart"], pack(np.full(9, 7)), "depart"),
        (["day", "depart"], pack(np.full(9, 2**62)), "depart"),
        (["day", "target_kwh"], pack(np.full(9, 20.0)), "."),
        (["plan", "gas_kw"], pack(np.full(6, np.nan)), "plan.gas_kw"),
        (["plan", "car_kw"], pack(np.zeros((6, 9), np.float32)), "dtype of plan.car_kw"),
        (["plan", "car_kw"], pack(np.zeros((6, 8))), "shape of plan.car_kw"),
        (["plan"], [], "."),
        (["dual"], pack(np.zeros(3)), "shape of dual"),
        (["dual"], pack(np.zeros((2, 2))), "shape of dual"),
        (["dual"], None, "."),
        (["groups"], pack(np.zeros(8, np.int64)), "shape of groups"),
        (["groups"], pack(np.zeros(9)), "dtype of groups"),
        (["lines"], pack(np.array([[2, 0]])), "lines"),
        (["lines"], pack(np.array([[0, 6]])), "lines"),
        (["lines"], pack(np.array([[-1, 0]])), "lines"),
        (["lines"], pack(np.array([[0, 0], [0, 0]])), "each once"),
        (["lines"], pack(np.array([0, 0])), "lines"),
        (["lines"], pack(np.array([[0.0, 0.0]])), "lines"),
        (["reserves"], pack(np.array([6])), "reserves"),
        (["reserves"], pack(np.array([-1])), "reserves"),
        (["reserves"], pack(np.array([1, 1])), "each once"),
        (["reserves"], pack(np.array([[1]])), "reserves"),
        (["reserves"], {"dtype": "<i8", "shape": [1], "data": "AAAA"}, "damaged"),
        (["instance", "steps"], 7, "instance"),
        (["instance", "steps"], -1, "instance"),
        (["instance", "unknown"], 7, "instance"),
        (["instance"], None, "."),
        (["instance_sha256"], "0" * 64, "instance"),
    ],
)
def test_forged_or_broken_fields_are_refused(path, value, text):
    refused(changed("budget", path, value), LOT, text)
    refused(changed("budget", path, value), None, ".")


@pytest.mark.parametrize("name", CASES)
def test_missing_and_extra_fields_are_refused(name):
    for field in made(name):
        found = made(name)
        del found[field]
        refused(found, LOT)
    refused(made(name) | {"note": "trust me"}, LOT, "fields")
    for part in ("day", "plan", "protection"):
        for key in list(made(name)[part]):
            found = made(name)
            del found[part][key]
            refused(found, LOT)
    refused(changed(name, ["day"], lambda old: old | {"extra": 1}), LOT, "day")


def test_reserves_are_no_matter_where_missing_energy_has_a_price():
    refused(changed("soft", ["reserves"], pack(np.array([1]))), LOT, "reserves")


def grouped():
    """A certificate whose groups matter: cars of two windows, one car that never comes."""
    lot = LOT.replace(cars=5, line_limit_kw=(1e3, 1e3))
    day = known_wind_day(Model(lot), sample(lot, "generator", 1, 6), 0)
    day = day._replace(
        arrive=np.array([0, 0, 1, 1, 3]),
        depart=np.array([5, 5, 5, 5, 3]),
        start_kwh=np.full(5, 10.0),
        target_kwh=np.array([12.0, 12.0, 20.0, 20.0, 10.0]),
    )
    answer = optimise(lot, Task(day, Protection(), "cost", True, gas_scale(lot)))
    return lot, certify(lot, answer)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ([0, 0, 0, 0, -1], "one arrival and departure"),
        ([0, 0, 1, 0, -1], "one arrival and departure"),
        ([0, 0, 1, 1, 1], "-1 for absent cars"),
        ([0, 0, 1, -1, -1], "-1 for absent cars"),
        ([0, 0, 2, 2, -1], "without gaps"),
        ([1, 1, 2, 2, -1], "without gaps"),
        ([0, 0, 1, 2**60, -1], "at most"),
        ([0, 0, 1, 5, -1], "at most|without gaps"),
        ([0, -2, 1, 1, -1], "-1 for absent cars"),
    ],
)
def test_groups_that_are_none_are_refused(label, text):
    lot, found = grouped()
    check(found, lot)
    refused(found | {"groups": pack(np.array(label))}, lot, text)


def test_true_groups_are_taken_with_multipliers_of_their_own():
    lot, found = grouped()
    forged = found | {"groups": pack(np.array([0, 0, 1, 1, -1]))}
    refused(forged, lot, "shape of dual|bound")
    fields = {key: value if key == "gas_kw" else unpack(value) for key, value in found["day"].items()}
    task = Task(Day(**fields), Protection(), "cost", True, gas_scale(lot))
    program = build(lot, task, np.array([0, 0, 1, 1, -1]), np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    dual = np.zeros(len(program.low))
    forged |= {"dual": pack(dual), "bound": -linear_bound(*parts, dual)}
    assert check(forged, lot).values["bound"] <= found["bound"]


def test_cars_of_several_aggregators_are_no_group_where_lines_are_rows():
    lot, found = grouped()
    forged = found | {"groups": pack(np.array([0, 0, 1, 1, -1])), "lines": pack(np.array([[0, 0]]))}
    refused(forged, lot, "one aggregator")


def test_no_forged_size_makes_a_check_endless():
    """Sizes that an instance may have but no certificate: refused at once, before anything is drawn or built."""
    began = time.perf_counter()
    for changes in (
        {"steps": 10_000, "cars": 100_000},
        {"steps": 10_000, "gas_segments": 1000, "cars": 100_000},
        {"steps": 10_000, "aggregator_bus": (1,) * 1000, "load_shares": (0.001,) * 1000},
        {"steps": 10_000, "turbine_bus": (1,) * 1000},
        {"line_from": tuple(range(20_000)), "line_to": tuple(range(1, 20_001)), "line_limit_kw": (1e3,) * 20_000},
    ):
        huge = LOT.replace(**changes)
        forged = made("hard") | {"instance": huge.to_dict(), "instance_sha256": huge.hash}
        refused(forged, None, "steps|work|lines")
    assert time.perf_counter() - began < 10.0


def test_a_plan_may_be_worse_than_the_bound_but_says_so():
    """Any feasible plan with any admissible bound is a true statement: the gap tells how good it is."""
    found = made("soft")
    gas = unpack(found["plan"]["gas_kw"]) + np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    forged = found | {"plan": found["plan"] | {"gas_kw": pack(gas)}}
    text = refused(forged, LOT, "value")
    true = float(text.split("allowed: ")[1].split()[0])
    report = None
    try:
        report = check(forged | {"value": true, "cost_usd": true}, LOT)
    except CertificateError as error:
        assert "ramp" in str(error)
    assert report is None or report.values["gap"] > found["value"] - found["bound"]
    assert true > found["value"]


@pytest.mark.parametrize("name", CASES)
def test_the_plan_written_down_keeps_every_car_within_its_limits(name):
    found = made(name)
    fields = {key: value if key == "gas_kw" else unpack(value) for key, value in found["day"].items()}
    day = Day(**fields)
    energy = energies(LOT, day, unpack(found["plan"]["car_kw"]))
    came = day.arrive < day.depart
    assert came.any() and (energy[-1] >= day.target_kwh - 1e-6)[came].all()
    least, most = LOT.energy_range_kwh
    assert (energy >= least - 1e-6).all() and (energy <= most + 1e-6).all()


def test_a_day_that_is_impossible_by_a_hair_lets_no_bound_rise_above_the_plan():
    """The generator falls 5e-7 kW short, within tolerance: multipliers of that row would prove any bound."""
    lot = LOT.replace(cars=0, turbine_bus=(), reserve_share=0.0, line_limit_kw=(1e3, 1e3), gas_ramp_kw=200.0)
    none, load = np.zeros(0), np.zeros((6, 3))
    load[:, 0] = 200.0
    whole = none.astype(np.int64)
    day = Day(load, 0.0 * load, np.zeros((6, 0)), np.zeros((6, 0)), whole, whole, none, none, 200.0)
    answer = optimise(lot, Task(day, Protection(), "cost", False, gas_scale(lot)))
    found = certify(lot, answer)
    check(found, lot)
    high = load.copy()
    high[2, 0] += 5e-7
    found["day"]["load_kw"] = pack(high)
    task = answer.task._replace(day=day._replace(load_kw=high))
    program = build(lot, task, answer.label, answer.lines, answer.reserves)
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    dual = np.zeros(len(program.low))
    dual[program.means[2]] = -1e12
    now = measure(lot, task, answer.plan)
    found |= {"dual": pack(dual), "bound": -linear_bound(*parts, dual), "value": now.value, "cost_usd": now.cost_usd}
    assert found["bound"] > 1e5
    refused(found, lot, "bound = .*not above the plan's value")


def test_the_check_leaves_the_certificate_as_it_was():
    found = made("budget")
    before = copy.deepcopy(found)
    check(found, LOT)
    assert found == before
