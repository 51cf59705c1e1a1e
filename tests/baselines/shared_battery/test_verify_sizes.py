"""Certificates of sizes: they hold, report what is true, and nothing in them can be changed without being refused."""

import copy
import json

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import CertificateError, check, pack, unpack
from baselines.shared_battery import reliability, units
from baselines.shared_battery.duals import least_use_bound
from baselines.shared_battery.laws import law_from
from baselines.shared_battery.programs import separate, solve, span_of
from baselines.shared_battery.scenario_program import POSITION_KWH, budget
from baselines.shared_battery.season_bound import Prices, bound, prices
from baselines.shared_battery.seasons import FixedSizes, bound_certificate, policy_certificate
from baselines.shared_battery.units import Units, short_days, units_needed
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SizingModel
from v2g_env.shared_battery.needs import from_days
from v2g_env.shared_battery.scenario import Days, law_of, sample_days, sample_seasons

LOT = Instance(drivers=4, season_days=10, eps=(0.1, 0.2, 0.3, 0.3), own_usd_per_kwh=3.6)
EQUAL = LOT.replace(own_usd_per_kwh=4.0, eps=(0.2,))
KINDS = {
    "scenario sizes": ["scenario", "scenario, equal prices", "scenario, log"],
    "separate sizes": ["separate", "separate, sampled", "separate, log"],
    "tested sizes": ["tested", "tested in order", "tested, log"],
    "tested units": ["units, whole", "units, divided, log"],
    "season bound": ["bound", "bound, log"],
    "season policy": ["policy", "policy, log"],
}
EVERY = [name for names in KINDS.values() for name in names]
SCENARIO, POLICY = KINDS["scenario sizes"], KINDS["season policy"]


def logs():
    rng = np.random.default_rng(3)
    return law_of(from_days([rng.weibull(1.3, 60) * scale for scale in (6.0, 9.0, 12.0, 15.0)], name="four"))


def lot_of(name):
    return EQUAL if "equal" in name else LOT


def made(name):
    lot, source = lot_of(name), logs() if "log" in name else "generator"
    if "scenario" in name:
        return solve(lot, n_samples=40, seed=6, source=source, beta=1e-2, looks=3).certificate
    if "separate" in name:
        return separate(lot, n_samples=None if name == "separate" else 150, seed=6, source=source, beta=0.1).certificate
    own = np.array([6.0, 9.5, 12.0, 15.0])
    if "units" in name:
        sizes = Units(own, 4, 0.0, 0.0, 0.0, np.zeros(0, np.int64))
        return units.tested_units(
            lot, sizes, 5.0, "whole" in name, days=60, seed=6, source=source, beta=0.1
        ).certificate
    if "tested" in name:
        rule = "first_come" if "order" in name else "utilitarian"
        options = {"days": 60, "seed": 6, "source": source, "rule": rule, "beta": 0.1, "looks": 2}
        return reliability.tested(lot, own, 20.0, **options).certificate
    model = SizingModel(lot, source)
    season = sample_seasons(lot, model.law, 8, 6)
    if "bound" in name:
        return bound_certificate(model, 6, 8, *prices(lot, season, own, 20.0, steps=20))
    episodes = rollout(model, season, FixedSizes(model, own, 20.0))
    return policy_certificate(model, 6, episodes, "fixed sizes", 1e-2, "ab" * 32 if "log" in name else None)


@pytest.fixture(scope="module")
def certificates():
    return {name: json.loads(json.dumps(made(name), allow_nan=False)) for name in EVERY}


def refused(data, instance):
    """True for a refusal with a reason; any other exception is passed on and fails the test."""
    try:
        check(data, instance)
    except CertificateError as error:
        assert len(str(error)) > 10
        return True
    return False


def leaves(data, path=()):
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path, data


def containers(data, path=()):
    if isinstance(data, dict | list):
        if path:
            yield path
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from containers(data[key], (*path, key))


def changed(data, path, value):
    result = copy.deepcopy(data)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def tampered(path, value):
    """Meaningful changes of a leaf."""
    last = [key for key in path if isinstance(key, str)][-1]
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return ["nobody", {}, 0, 1]
    if isinstance(value, str):
        others = {
            "law": ["generator", "log:four", "log:other", ""],
            "dtype": ["<f4", "<f8", "<i8", "|O"],
            "kind": EVERY,
            "rule": ["proportional", "first_come", "utilitarian", "mine first"],
        }
        return [other for other in others.get(last, [value + "0", "", value[:-1]]) if other != value]
    if isinstance(value, int):
        return [value + 1, value - 1, float(value), bool(value)]
    if isinstance(value, float):
        step = max(abs(value) * 1e-3, 1e-3)
        return [value + step, value - step]
    return [None, 1]  # an empty list or object


EVIDENCE = ("cost_weight", "tie_weight", "least_own_kwh")


def is_reordered(value, part):
    return isinstance(value, list) and len(value) == len(part) and sorted(value) == sorted(part)


def harmless(data, path, value, instance):
    """Changes after which the statement is still true, each with its reason."""
    if path == ("policy",):
        return isinstance(value, str) and value != ""  # a label: what is certified are the recorded actions
    if path == ("policy_sha256",):
        return value is None or isinstance(value, str)  # a label too
    if path == ("risk", "beta") and data["sample"].get("seed") is None:
        return type(value) is float and 0.0 < value < 1.0  # exact quantiles need no confidence
    if path[0] in EVIDENCE and (type(value) is float if len(path) > 1 else is_reordered(value, data[path[0]])):
        # any multipliers prove something: with these the very same claims are proven
        try:
            after, before = check(changed(data, path, value), instance).values, check(data, instance).values
        except CertificateError:
            return True
        same = all(after[key] == pytest.approx(before[key], rel=1e-8) for key in ("eps", "complexity", "bound_usd"))
        return same and after["distance_kwh"] <= POSITION_KWH
    return False


@pytest.mark.parametrize("name", EVERY)
def test_every_certificate_holds_after_a_round_trip_through_json(certificates, name):
    data, lot = certificates[name], lot_of(name)
    for instance in (lot, None):
        report = check(data, instance)
        assert report.kind == data["kind"]
        assert name in KINDS[report.kind]
        assert report.claims
        assert all(np.isfinite(value) for value in report.values.values())


@pytest.mark.parametrize("name", EVERY)
def test_every_certificate_is_plain_data_before_the_round_trip_too(name):
    check(made(name), lot_of(name))


@pytest.mark.parametrize("name", EVERY)
def test_the_report_holds_the_numbers_of_the_certificate(certificates, name):
    data, lot = certificates[name], lot_of(name)
    values = check(data, lot).values
    if "scenario" in name:
        k = len(data["days"])
        assert values["complexity"] == k >= 1
        assert values["eps"] == data["risk"]["eps"] == risk.degenerate(40, k, 1e-2 / 3)
        assert 0.0 <= data["cost_usd"] / values["bound_usd"] - 1.0 <= 2e-7
        assert values["distance_kwh"] <= POSITION_KWH
    elif "separate" in name:
        assert values["eps"] == max(data["risk"]["eps"])
        assert values["cost_usd"] == data["cost_usd"]
    elif "tested" in name:
        assert values["eps"] == max(data["risk"]["eps"]) == risk.hold_out(60, max(data["missed"]), 0.1 / 8)
        assert values["targets_kept"] == sum(np.array(data["risk"]["eps"]) <= LOT.eps)
    elif "units" in name:
        assert values["short_days"] == data["short_days"]
        assert values["eps"] == data["risk"]["eps"] == risk.hold_out(60, data["short_days"], 0.1)
    elif "bound" in name:
        assert values["mean_bound_usd"] == pytest.approx(data["mean_bound_usd"])
    else:
        assert values["mean_return_usd"] == pytest.approx(data["mean_return_usd"])
        assert values["eps"] == data["risk"]["eps"] == risk.adaptive(80, data["risk"]["violated"], 1e-2)


@pytest.mark.parametrize("name", EVERY)
def test_no_single_number_or_word_can_be_changed(certificates, name):
    data, lot = certificates[name], lot_of(name)
    survived = []
    for path, value in leaves(data):
        for other in tampered(path, value):
            if refused(changed(data, path, other), lot) or harmless(data, path, other, lot):
                continue
            survived.append((path, value, other))
    assert not survived


RUBBISH = [float("nan"), float("inf"), -float("inf"), 10**400, -1e308, "text", [], {}, [[]], None, True, 7]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda value: repr(value)[:10])
def test_rubbish_anywhere_is_refused_as_a_certificate_error(certificates, name, rubbish):
    data, lot = certificates[name], lot_of(name)
    for path, value in [*leaves(data), *((path, ...) for path in containers(data))]:
        if value is rubbish or (type(value) is type(rubbish) and value == rubbish):
            continue
        part = data
        for key in path:
            part = part[key]
        if part == rubbish or harmless(data, path, rubbish, lot):
            continue
        assert refused(changed(data, path, rubbish), lot), (path, rubbish)


@pytest.mark.parametrize("name", EVERY)
def test_a_field_missing_or_too_much_is_refused(certificates, name):
    data, lot = certificates[name], lot_of(name)
    for path in [("sample",), ("risk",), ("needs",), ("actions",), ("missed_usd",), ("instance",), ()]:
        part = data
        for key in path:
            part = part.get(key) if part is not None else None
        if not isinstance(part, dict):
            continue
        for key in list(part):
            less = copy.deepcopy(data)
            place = less
            for step in path:
                place = place[step]
            del place[key]
            # an instance without a field has its default; the hash over all fields decides
            if not (path == ("instance",) and getattr(Instance(), key) == getattr(lot, key)):
                assert refused(less, lot), (path, key)
            place[key], place["more"] = part[key], 1
            assert refused(less, lot), path


@pytest.mark.parametrize("name", EVERY)
def test_lists_shortened_or_lengthened_are_refused(certificates, name):
    data, lot = certificates[name], lot_of(name)
    tried = 0
    for path in containers(data):
        part = data
        for key in path:
            part = part[key]
        if isinstance(part, list) and part:
            for other in (part[:-1], part[1:], [*part, part[-1]], part[::-1]):
                if other != part and not harmless(data, path, other, lot):
                    assert refused(changed(data, path, other), lot), (path, other)
                    tried += 1
    assert tried > 0


@pytest.mark.parametrize("name", EVERY)
def test_another_instance_is_refused(certificates, name):
    data, lot = certificates[name], lot_of(name)
    other = lot.replace(median_miles=30.0)
    assert refused(data, other)
    assert refused(data | {"instance": other.to_dict()}, other)
    assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash}, lot)
    if "log" not in name:  # even with a matching hash every number is another one
        assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash}, other)
    dearer = lot.replace(own_usd_per_kwh=5.0)
    assert refused(data | {"instance": dearer.to_dict(), "instance_sha256": dearer.hash}, dearer)


@pytest.mark.parametrize("name", EVERY)
def test_another_kind_is_refused(certificates, name):
    data, lot = certificates[name], lot_of(name)
    for kind in [*KINDS, "season", "", None, 3]:
        if kind != data["kind"]:
            assert refused(data | {"kind": kind}, lot)


def test_a_law_from_a_log_travels_in_the_certificate(certificates):
    for name in [each for each in EVERY if "log" in each]:
        data = certificates[name]
        assert data["sample"]["law"] == "log:four"
        source = law_from(data["needs"], LOT)
        assert source.needs.sha256 == logs().needs.sha256
        share = unpack(data["needs"]["share"])
        moved = changed(data, ("needs", "share"), pack(share[:, ::-1]))
        assert refused(moved, LOT)
        # with its own fingerprint it is another law: other needs, other numbers
        moved["needs"]["sha256"] = law_from({**moved["needs"], "sha256": fingerprint(moved["needs"])}, LOT).needs.sha256
        assert refused(moved, LOT)
        assert refused(changed(data, ("needs",), None), LOT)


def fingerprint(needs):
    from v2g_env.shared_battery.needs import Needs

    return Needs(needs["name"], needs["bin_kwh"], unpack(needs["idle"]), unpack(needs["share"])).sha256


# Sizes of scenario programs


def with_sizes(data, lot, own, shared):
    other = copy.deepcopy(data)
    own = np.asarray(own, float)
    other["own_kwh"], other["shared_kwh"] = own.tolist(), float(shared)
    other["cost_usd"] = float(lot.cost_usd(own, shared))
    return other


def least_use(data, lot):
    span = span_of(lot)
    need = sample_days(lot, law_from(data["needs"], lot), data["sample"]["n_samples"], data["sample"]["seed"]).need_kwh
    rows = np.vstack([need[data["days"]], np.zeros((1, lot.drivers))])
    return float(least_use_bound(rows, np.array(data["cost_weight"]), span.low, span.high, span.ratio))


@pytest.mark.parametrize("name", SCENARIO)
def test_sizes_next_to_the_certified_ones_are_refused_even_with_their_own_cost(certificates, name):
    data, lot = certificates[name], lot_of(name)
    own, shared = np.array(data["own_kwh"]), data["shared_kwh"]
    ratio = lot.own_usd_per_kwh / lot.shared_usd_per_kwh
    for scale in (1.001, 1.1, 2.0, 0.999):
        assert refused(with_sizes(data, lot, own * scale, shared * scale), lot), scale
    assert refused(with_sizes(data, lot, own, shared + 1e-4), lot)
    for i in range(4):
        for step in (0.1, -0.1, 5.0):
            moved = own.copy()
            moved[i] = max(moved[i] + step, 0.0)
            if moved[i] != own[i]:  # at the same cost, and at the cost of all of it
                assert refused(with_sizes(data, lot, moved, max(shared - ratio * (moved[i] - own[i]), 0.0)), lot)
                assert refused(with_sizes(data, lot, moved, shared), lot)


def test_an_optimum_without_the_tie_break_is_refused(certificates):
    # at equal prices no own battery at all costs the same
    data = certificates["scenario, equal prices"]
    other = with_sizes(data, EQUAL, np.zeros(4), budget(least_use(data, EQUAL)))
    assert other["cost_usd"] == pytest.approx(data["cost_usd"], rel=1e-9)
    with pytest.raises(CertificateError, match="distance to the unique sizes"):
        check(other, EQUAL)
    # nor does the way from it to the certified one
    half = 0.5 * np.array(data["own_kwh"])
    other = with_sizes(data, EQUAL, half, budget(least_use(data, EQUAL)) - half.sum())
    with pytest.raises(CertificateError, match="distance to the unique sizes"):
        check(other, EQUAL)


@pytest.mark.parametrize("name", SCENARIO)
def test_a_shorter_or_other_list_of_days_is_refused_even_with_its_own_promise(certificates, name):
    data, lot = certificates[name], lot_of(name)
    days, n = data["days"], data["sample"]["n_samples"]
    for place in range(len(days)):
        fewer = copy.deepcopy(data)
        for field in ("days", "cost_weight", "tie_weight"):
            del fewer[field][place]
        if not any(fewer["cost_weight"]):
            fewer["cost_weight"][-1] = 1.0
        fewer["risk"]["eps"] = risk.degenerate(n, len(days) - 1, 1e-2 / 3)
        assert refused(fewer, lot), place
    spare = next(i for i in range(n) if i not in days)
    for place in range(len(days)):
        for other in (spare, n, -1, True, 0.0, days[0] if place else days[-1]):
            if type(other) is int and other == days[place]:
                continue
            moved = [*days[:place], other, *days[place + 1 :]]
            assert refused(changed(data, ("days",), sorted(moved)), lot)


def test_negative_multipliers_prove_nothing(certificates):
    data = certificates["scenario"]
    for field in ("cost_weight", "tie_weight"):
        for place in range(len(data[field])):
            for value in (-1e-12, -1e-3, -1e3):
                with pytest.raises(CertificateError, match=rf"^{field}.*finite numbers"):
                    check(changed(data, (field, place), value), LOT)
    with pytest.raises(CertificateError, match="^cost_weight.*not all zero"):
        check(data | {"cost_weight": [0.0] * len(data["cost_weight"])}, LOT)


def test_the_listed_days_are_indices_in_increasing_order(certificates):
    data = certificates["scenario"]
    count = len(data["days"])
    assert count > 1
    turned = [*range(count)[::-1], count]
    other = data | {field: [data[field][k] for k in turned] for field in ("cost_weight", "tie_weight")}
    with pytest.raises(CertificateError, match="^days.*increasing"):
        check(other | {"days": data["days"][::-1]}, LOT)
    twice = data | {field: [data[field][0], *data[field]] for field in ("cost_weight", "tie_weight")}
    with pytest.raises(CertificateError, match="^days.*increasing"):
        check(twice | {"days": [data["days"][0], *data["days"]]}, LOT)


@pytest.mark.parametrize("name", SCENARIO)
def test_own_batteries_that_cost_more_than_the_least_do_not_show_that_the_bound_is_met(certificates, name):
    data, lot = certificates[name], lot_of(name)
    with pytest.raises(CertificateError, match="gap of the least use"):  # those of the tie-break spend its allowance
        check(data | {"least_own_kwh": data["own_kwh"]}, lot)


def test_a_longer_list_is_a_weaker_promise_that_holds(certificates):
    data = copy.deepcopy(certificates["scenario"])
    n, days = data["sample"]["n_samples"], data["days"]
    data["days"] = [*days, n - 1]
    assert n - 1 not in days
    for field in ("cost_weight", "tie_weight"):
        data[field].insert(-1, 0.0)
    assert refused(data, LOT)  # with the promise of the shorter one
    data["risk"]["eps"] = risk.degenerate(n, len(days) + 1, 1e-2 / 3)
    assert check(data, LOT).values["complexity"] == len(days) + 1


def test_looks_and_confidence_belong_to_the_promise(certificates):
    data = certificates["scenario"]
    k = len(data["days"])
    for changes in ({"looks": 1}, {"beta": 0.02}, {"looks": 0}, {"beta": 0.0}, {"beta": 1.0}):
        assert refused(data | {"risk": data["risk"] | changes}, LOT)
    fewer = data["risk"] | {"looks": 1, "eps": risk.degenerate(40, k, 1e-2)}
    assert check(data | {"risk": fewer}, LOT).values["eps"] < data["risk"]["eps"]  # how many were tried is a claim


def test_a_theorem_with_smaller_promises_is_refused(certificates):
    data = certificates["scenario"]
    k = len(data["days"])
    for theorem, eps in (("wait_and_judge", risk.wait_and_judge(40, k, 1e-2 / 3)), ("a_priori", 0.01)):
        assert refused(data | {"risk": data["risk"] | {"theorem": theorem, "eps": eps}}, LOT)
        assert refused(data | {"risk": data["risk"] | {"eps": eps}}, LOT)


def test_own_batteries_out_of_the_instances_range_are_refused():
    lot = LOT.replace(own_min_kwh=3.0, own_max_kwh=20.0)
    data = solve(lot, n_samples=40, seed=6, beta=1e-2).certificate
    check(data, lot)
    for field in ("own_kwh", "least_own_kwh"):
        for value in (2.9, 20.1):
            with pytest.raises(CertificateError, match=rf"^{field}|^cost_usd"):
                check(changed(data, (field, 0), value), lot)
    moved = np.array(data["own_kwh"])
    moved[0] = 2.9
    with pytest.raises(CertificateError, match=r"own_kwh = .*finite numbers in \[3, 20\]"):
        check(with_sizes(data, lot, moved, data["shared_kwh"]), lot)


def test_sizes_that_spend_a_billionth_more_are_refused():
    # the multipliers of the tie-break reach 1e6: a billionth more to spend is paid for with a distance of centimetres,
    # while the bound on the distance falls to nothing
    from baselines.shared_battery import scenario_program
    from baselines.shared_battery.interior import Sizing

    lot = Instance(drivers=100, own_usd_per_kwh=2.0)
    data = solve(lot, n_samples=3000, seed=1, beta=1e-3).certificate
    span, low = span_of(lot), least_use(data, lot)
    need = np.vstack([sample_days(lot, "generator", 3000, 1).need_kwh, np.zeros((1, 100))])
    days = np.append(np.array(data["days"]), 3000)
    for more in (1.9e-9, 1e-11):
        nearest = Sizing(span.low, span.high, span.ratio, budget(low) + more * (1.0 + low), 0.0, 1.0, 160.0)
        own = scenario_program._with_violated_days(need, nearest, days, 1e-13)[0].own
        for spent in (0.0, 0.5 * more, more):
            shared = budget(low) + spent * (1.0 + low) - span.ratio * own.sum()
            assert refused(with_sizes(data, lot, own, shared), lot)


# Separate and tested sizes


def test_separate_batteries_cannot_be_smaller_than_the_order_statistics(certificates):
    for name in KINDS["separate sizes"]:
        data = certificates[name]
        own = np.array(data["own_kwh"])
        for i in range(4):
            moved = own.copy()
            moved[i] -= 1e-3
            assert refused(with_sizes(data, LOT, moved, 0.0), LOT)
        assert refused(with_sizes(data, LOT, own, 1.0), LOT)
    sampled = certificates["separate, sampled"]
    more = changed(sampled, ("days_above", 0), sampled["days_above"][0] + 1)
    need = np.sort(sample_days(LOT, "generator", 150, 6).need_kwh, axis=0)[:, 0]
    own = np.array(sampled["own_kwh"])
    own[0] = need[149 - more["days_above"][0]]
    more = with_sizes(more, LOT, own, 0.0)
    more["risk"]["eps"][0] = risk.hold_out(150, more["days_above"][0], 0.1 / 4)
    assert refused(more, LOT)


def test_an_exact_quantile_has_no_sample_at_all(certificates):
    data, sampled = certificates["separate"], certificates["separate, sampled"]
    for changes in ({"seed": 6}, {"n_samples": 150}, {"sha256": sampled["sample"]["sha256"]}, sampled["sample"]):
        assert refused(data | {"sample": data["sample"] | changes}, LOT)
    assert refused(sampled | {"sample": data["sample"]}, LOT)


def test_days_that_made_the_sizes_are_no_test_of_them(certificates):
    data = certificates["tested"]
    days = reliability.sample_test(LOT, "generator", 60, 6, 0, "utilitarian")
    own, shared = np.array(data["own_kwh"]), data["shared_kwh"]
    for stream in (reliability.PROGRAM_STREAM, reliability.TRAINING_STREAM):
        with pytest.raises(InvalidInputError, match="^stream"):
            reliability.tested(LOT, own, shared, days=60, seed=6, stream=stream, rule="utilitarian", beta=0.1)
    missed = reliability.missed_days("utilitarian", own, shared, days)
    forged = data | {
        "sample": data["sample"] | {"stream": 0, "sha256": Days(days.need_kwh).sha256},
        "missed": missed.tolist(),
        "risk": data["risk"] | {"eps": risk.hold_out(60, missed, 0.1 / 2 / 4).tolist()},
    }
    with pytest.raises(CertificateError, match=r"sample\.stream"):
        check(forged, LOT)
    for stream in (-1, 1001, 2.0, True, None):
        assert refused(changed(data, ("sample", "stream"), stream), LOT)


def test_sizes_below_nothing_are_refused(certificates):
    data = certificates["tested"]
    for own, shared in ((data["own_kwh"], -1.0), (data["own_kwh"], -1e-12), ([-1e-9, *data["own_kwh"][1:]], 20.0)):
        with pytest.raises(CertificateError, match=r"a number in \[0|finite numbers in \[0"):
            check(with_sizes(data, LOT, own, shared), LOT)


def test_the_rule_belongs_to_the_test(certificates):
    data = certificates["tested in order"]
    for rule in ("utilitarian", "proportional", "first_come_skip"):
        other = reliability.tested(LOT, data["own_kwh"], 20.0, days=60, seed=6, rule=rule, beta=0.1, looks=2)
        if other.certificate["missed"] != data["missed"]:
            assert refused(data | {"rule": rule}, LOT)
            assert refused(other.certificate | {"rule": "first_come"}, LOT)


@pytest.mark.parametrize(("name", "field"), [("tested", "missed"), ("separate, sampled", "days_above")])
def test_counts_are_whole_numbers(certificates, name, field):
    data = certificates[name]
    assert refused(changed(data, (field,), [float(count) for count in data[field]]), LOT)


# Units


def test_units_taken_whole_are_short_more_often_than_units_divided(certificates):
    data = certificates["units, whole"]
    need = sample_days(LOT, "generator", 60, 6, 4).need_kwh
    own = np.array(data["own_kwh"])
    assert data["short_days"] == int((units_needed(need, own, 5.0) > 4).sum()) == short_days(need, own, 4, 5.0, True)
    assert 0 < short_days(need, own, 4, 5.0, False) < data["short_days"]
    assert data["risk"]["eps"] == risk.hold_out(60, data["short_days"], 0.1)
    assert refused(data | {"whole": False}, LOT)
    assert refused(data | {"units": 5, "cost_usd": data["cost_usd"] + 20.0}, LOT)


# Seasons


@pytest.mark.parametrize("name", KINDS["season bound"])
def test_a_bound_cannot_be_claimed_tighter_than_its_prices_prove(certificates, name):
    data = certificates[name]
    with pytest.raises(CertificateError, match="mean_bound_usd"):
        check(data | {"mean_bound_usd": data["mean_bound_usd"] * (1.0 - 1e-10)}, LOT)
    check(data | {"mean_bound_usd": data["mean_bound_usd"] * (1.0 + 1e-10)}, LOT)
    for field in ("missed_usd", "shared_usd_per_kwh"):
        values = unpack(data[field])
        for wrong in (values[:-1], -values - 1.0, values * np.nan, values + 1e10, values > 0.0):
            assert refused(changed(data, (field,), pack(wrong)), LOT)
        for place in range(0, len(values), 7):
            moved = values.copy()
            moved[place] *= 0.9
            model = SizingModel(LOT, law_from(data["needs"], LOT))
            season = sample_seasons(LOT, model.law, 8, 6)
            evidence = Prices(**({part: unpack(data[part]) for part in Prices._fields} | {field: moved}))
            mean = model.separate_usd - bound(LOT, season, evidence)
            if abs(mean - data["mean_bound_usd"]) > 1e-5 * (1.0 + abs(mean)):
                assert refused(changed(data, (field,), pack(moved)), LOT)


def test_a_bound_below_zero_is_a_bound():
    # one season of one day on which the driver needs more than his quantile: the best sizes cost more than separate
    lot = Instance(drivers=1, season_days=1, eps=(0.4,), own_usd_per_kwh=1.0, missed_usd=1000.0)
    model, season = SizingModel(lot), sample_seasons(lot, "generator", 1, 10)
    evidence = Prices(season.need_kwh.ravel(), np.array([4.0]))
    data = bound_certificate(model, 10, 1, evidence, bound(lot, season, evidence))
    assert data["mean_bound_usd"] < -1.0
    check(data, lot)
    with pytest.raises(CertificateError, match="mean_bound_usd"):
        check(data | {"mean_bound_usd": data["mean_bound_usd"] * (1.0 + 1e-10)}, lot)


@pytest.mark.parametrize("name", POLICY)
def test_a_recorded_action_that_matters_cannot_be_changed(certificates, name):
    data = certificates[name]
    actions = unpack(data["actions"])
    model = SizingModel(LOT, law_from(data["needs"], LOT))
    season = sample_seasons(LOT, model.law, 8, 6)
    tried = 0
    for row in range(8):
        for place in range(5):
            other = actions.copy()
            other[row, 0, place] += 0.01
            if abs(rollout(model, season, Recorded(other)).returns.mean() - data["mean_return_usd"]) > 1e-3:
                assert refused(changed(data, ("actions",), pack(other)), LOT), (row, place)
                tried += 1
    assert tried > 10
    for wrong in (actions[:-1], actions[:, :, :-1], actions.astype(np.float64), actions + 7, actions * np.nan):
        assert refused(changed(data, ("actions",), pack(wrong)), LOT)


def test_forged_sizes_of_samples_are_refused_without_being_drawn(certificates):
    for name in EVERY:
        data = certificates[name]
        if data["sample"]["n_samples"] is not None:
            for count in (10**10, 10**18, 10**400):
                assert refused(changed(data, ("sample", "n_samples"), count), lot_of(name))
