"""Certificates of adjustable rules: they hold as written, and nothing in them can be changed without being refused."""

import copy
import json
import math
import time
from functools import lru_cache

import numpy as np
import pytest

from baselines.certificate import CertificateError, check, load, pack, save, unpack
from baselines.duality import linear_bound
from baselines.scheduling.affine import affine_program, alike, solve
from baselines.scheduling.day import Protection, ahead_day
from baselines.scheduling.program import Task
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import gas_scale, sample

LOT = Instance(steps=12, step_h=2.0, gas_ramp_kw=900.0, cars=8)
CASES = {
    "rule": (Protection("budget", 2.5, wind=True), True),
    "plan": (Protection("budget", 2.5, wind=True), False),
    "loads": (Protection("ellipsoid", 1.2), True),
    "box": (Protection("box"), True),
    "none": (Protection(), True),
}


@lru_cache
def day():
    return ahead_day(Model(LOT), sample(LOT, "generator", 1, 4), 0)


@lru_cache
def text_of(name):
    protection, adjust = CASES[name]
    return json.dumps(solve(LOT, day(), protection, adjust).certificate, allow_nan=False)


def made(name="rule"):
    """A fresh copy of a case's certificate, as read back from JSON."""
    return json.loads(text_of(name))


def program_of(name):
    protection, adjust = CASES[name]
    return affine_program(LOT, Task(day(), protection, "cost", False, gas_scale(LOT)), adjust)


def bound_of(name, dual):
    found = program_of(name)
    return -linear_bound(found.cost, found.matrix, found.low, found.up, found.lower, found.upper, dual)


def refused(certificate, text=".", instance=LOT):
    with pytest.raises(CertificateError, match=text) as caught:
        check(certificate, instance)
    assert len(str(caught.value)) < 2000


def changed(path, value, name="rule"):
    """Certificate with one entry replaced; ``value`` may be a function of the old one."""
    found = made(name)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value(place[path[-1]]) if callable(value) else value
    return found


def moved(size, spots=slice(None)):
    def move(old):
        values = unpack(old).copy()
        values[spots] += np.asarray(size, values.dtype)
        return pack(values)

    return move


@pytest.mark.parametrize("name", CASES)
def test_certificates_hold_with_and_without_the_instance_and_survive_files(name, tmp_path):
    save(made(name), tmp_path / "rule.json")
    for instance in (None, LOT):
        report = check(load(tmp_path / "rule.json"), instance)
        assert report.kind == "adjustable schedule" and len(report.claims) == 2
        assert 0.0 <= report.values["gap"] < 1e-5 * report.values["value"]
        assert report.values["bound"] <= report.values["value"] == pytest.approx(made(name)["value"], rel=1e-12)
    kind = CASES[name][0].kind
    assert kind in report.claims[0] and f"{report.values['value']:.6f} $" in report.claims[0]


@pytest.mark.parametrize("name", CASES)
def test_the_certificate_of_another_instance_is_refused(name):
    other = LOT.replace(gas_linear=0.11)
    refused(made(name), "instance = ", other)
    forged = made(name) | {"instance": other.to_dict()}
    refused(forged, "instance = ", None)
    forged["instance_sha256"] = other.hash
    refused(forged, "value|bound|point", other)
    refused(forged, "instance = ")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("field", ["value", "bound"])
def test_a_claimed_number_that_is_off_in_the_seventh_digit_is_refused(name, field):
    for factor in (1.0 + 1e-7, 1.0 - 1e-7):
        refused(changed([field], lambda old, f=factor: old * f, name), field)
    for value in (math.nan, math.inf, None, "1", True, [1.0], 10**400, 1):
        refused(changed([field], value, name), field)


@pytest.mark.parametrize("field", sorted(made()))
def test_every_field_is_needed_and_no_other_taken(field):
    missing = made()
    del missing[field]
    refused(missing)
    refused(made() | {"comment": "proven"}, "fields")
    for value in (None, "x", 7, [], {}, math.nan):
        if value != made()[field]:
            refused(changed([field], value))


@pytest.mark.parametrize("field", ["arrive", "depart", "start_kwh", "target_kwh", "load_kw", "wind_kw", "load_half_kw"])
def test_another_day_is_refused(field):
    whole = field in ("arrive", "depart")
    for size in (1, -1) if whole else (0.01, -0.01):
        refused(changed(["day", field], moved(size), "box"))
    refused(changed(["day", field], lambda old: pack(unpack(old)[:-1]), "box"))
    if not whole:
        refused(changed(["day", field], moved(math.nan, 0), "box"), "not finite")


def test_another_wind_half_width_generator_or_missing_part_of_the_day_is_refused():
    refused(changed(["day", "wind_half_kw"], moved(0.01)))
    for value in (math.nan, -1.0, LOT.gas_max_kw + 1.0, 100, "1", True):
        refused(changed(["day", "gas_kw"], value), "gas_kw")
    refused(changed(["day"], lambda old: old | {"mood": 1.0}), "day")
    refused(changed(["day"], lambda old: {name: part for name, part in old.items() if name != "arrive"}), "day")


def test_another_set_is_refused():
    for level in (0.0, 2.4, 2.6, 5.0, 11.0, -1.0, math.nan, "2.5", None):
        refused(changed(["protection", "level"], level))
    for kind in ("none", "box", "ellipsoid", "box-ellipsoid", "ball", None, 3):
        refused(changed(["protection", "kind"], kind))
    refused(changed(["protection", "wind"], False))
    for wind in (1, None, "yes"):
        refused(changed(["protection", "wind"], wind), "protection")
    refused(changed(["protection"], lambda old: old | {"extra": 0}), "protection")


def test_a_rule_is_no_plan_without_answers_and_the_other_way_round():
    refused(changed(["adjust"], False), "point|bound")
    refused(changed(["adjust"], True, "plan"), "bound")
    for value in (1, 0, None, "true"):
        refused(changed(["adjust"], value), "adjust")


def test_points_outside_their_limits_are_refused_even_with_their_own_value():
    program, rng = program_of("rule"), np.random.default_rng(0)
    point = unpack(made()["point"])
    steps = [0, 3, 7, 11]
    columns = [
        program.base.gas[t][point[program.base.gas[t]] > 1.0][0] for t in steps if point[program.base.gas[t]].any()
    ]
    columns += [c for now in program.now for c in now[np.abs(point[now]) > 0.01][:3]]
    assert len(columns) >= 6
    refusals = 0
    for column in columns:
        for size in (1.0, -1.0):
            forged = point.copy()
            forged[column] += size * rng.uniform(0.5, 1.0)
            certificate = changed(["point"], pack(forged)) | {"value": -float(program.cost @ forged)}
            if forged[column] < program.lower[column] or forged[column] > program.upper[column]:
                refused(certificate, "point = .*within the bounds of its columns")
            sums = program.matrix @ forged
            if np.maximum(program.low - sums, sums - program.up).max() > 1e-6:
                refused(certificate)
                refusals += 1
    assert refusals >= 6


def test_a_cheaper_point_is_refused():
    program, point = program_of("rule"), unpack(made()["point"])
    for column in program.base.gas.ravel()[point[program.base.gas.ravel()] > 1.0][::9]:
        forged = point.copy()
        forged[column] -= 1e-4
        certificate = changed(["point"], pack(forged)) | {"value": -float(program.cost @ forged)}
        refused(certificate, "excess over a limit")


def test_a_surplus_that_overfills_a_battery_is_refused():
    """Charging more with the last surplus changes neither cost nor balance, only what is in the battery."""
    program, point = program_of("rule"), unpack(made()["point"])
    overfilled = 0
    for group, now in enumerate(program.now):
        first = int(day().arrive[np.flatnonzero(alike(LOT, day()) == group)[0]])
        reach, energy = program.reach[first + len(now) - 1], point[program.base.energy[group][-1]]
        forged = point.copy()
        forged[now[-1, 2]] = 0.01
        stored = energy + LOT.efficiency * LOT.step_h * 0.01 * reach
        if point[program.base.charge[group][-1]] + 0.01 * reach < LOT.charger_kw and stored > LOT.energy_range_kwh[1]:
            overfilled += 1
            refused(changed(["point"], pack(forged)), "excess over a limit")
    assert overfilled > 3


def test_an_excess_that_deviations_multiply_is_refused():
    """An answer summed up 5e-7 kW per kW too low would break a limit by that times the deviation."""
    program, point = program_of("rule"), unpack(made()["point"])
    added = np.arange(len(program.base.cost), len(point))
    answers = np.concatenate([one.ravel() for one in (program.gas[1:], *program.now, *program.then)])
    sums = np.setdiff1d(added, answers)
    forged = point.copy()
    forged[sums] = np.maximum(point[sums] - 5e-7, 0.0)
    assert np.count_nonzero(forged != point) > 20
    refused(changed(["point"], pack(forged)) | {"value": -float(program.cost @ forged)}, "excess over a limit")


def test_the_claim_names_what_is_left_out():
    claim = check(made(), LOT).claims[0]
    assert "balance, generator, reserve and cars" in claim and "lines left out" in claim


def test_damaged_points_are_refused():
    point = unpack(made()["point"])
    for value in (
        pack(point[:-1]),
        pack(np.append(point, 0.0)),
        pack(point.astype(np.float32)),
        pack(point[None]),
        "x",
    ):
        refused(changed(["point"], value))
    for number in (math.nan, math.inf, 1e300):
        refused(changed(["point"], moved(number, 0)))


def test_multipliers_are_taken_only_with_their_own_bound_and_never_prove_too_much():
    dual, rng = unpack(made()["dual"]), np.random.default_rng(1)
    for size in (1e-4, 0.1, 3.0):
        other = dual * (1.0 + size * rng.standard_normal(len(dual)))
        refused(changed(["dual"], pack(other)), "bound")
        own = bound_of("rule", other)
        assert own <= made()["value"]
        report = check(changed(["dual"], pack(other)) | {"bound": own}, LOT)
        assert report.values["gap"] >= check(made(), LOT).values["gap"] - 1e-9
    for value in (pack(dual[:-1]), pack(np.append(dual, 0.0)), pack(dual.astype(np.float32)), None):
        refused(changed(["dual"], value), "dual|packed")
    refused(changed(["dual"], moved(math.nan, 3)), "not finite")


def test_a_forged_bound_without_multipliers_is_refused():
    nothing = np.zeros(len(unpack(made()["dual"])))
    honest = changed(["dual"], pack(nothing)) | {"bound": bound_of("rule", nothing)}
    assert check(honest, LOT).values["bound"] <= 1e-6  # nothing proven
    refused(honest | {"bound": made()["bound"]}, "bound")


def test_a_huge_forged_instance_is_refused_at_once():
    huge = LOT.replace(cars=100_000, steps=10_000)
    forged = made() | {"instance": huge.to_dict(), "instance_sha256": huge.hash}
    begin = time.perf_counter()
    refused(forged, "steps x", huge)
    assert time.perf_counter() - begin < 5.0


def test_checking_changes_nothing():
    certificate = made()
    before = copy.deepcopy(certificate)
    check(certificate, LOT)
    assert certificate == before
