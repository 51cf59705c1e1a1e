"""Certificates of the mean bound: what they claim is recomputed day by day, and nothing else passes."""

import copy
import json

import numpy as np
import pytest

from baselines.certificate import CertificateError, check
from baselines.stackelberg.certify import digest
from baselines.stackelberg.online import OnlineSolver, online_bound
from baselines.stackelberg.verify_online import bound_certificate, verify_online
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.scenario import sample

TINY = Instance(days=2, rebate_levels_usd_per_h=(0.0, 0.2))
GAP, LIMIT_S = 1e-2, 0.3


@pytest.fixture(scope="module")
def solver():
    return OnlineSolver(TINY, GAP, LIMIT_S)


@pytest.fixture(scope="module")
def made(solver):
    return json.dumps(bound_certificate(solver, 5, 1), allow_nan=False)


@pytest.fixture
def certificate(made):
    return json.loads(made)


def test_an_honest_certificate_holds_and_its_mean_is_that_of_the_bound(certificate, solver):
    report = check(certificate, TINY)
    bound = online_bound(TINY, sample(TINY, 2, 5), solver=solver).bound_usd
    assert report.values["mean_bound_usd"] == pytest.approx(bound[0].mean(), rel=1e-6)
    assert report.values["days"] == 2.0
    assert f"{report.values['mean_bound_usd']:.4f} $ a day" in report.claims[1]


def test_days_that_a_policy_solved_first_are_certified_at_their_exact_prices():
    months = sample(TINY, 1, 5)
    other = OnlineSolver(TINY, GAP, LIMIT_S)
    for d in range(2):
        other(months.price[0, d] * (1.0 + 4e-7), bool(months.weekend[0, d]), int(months.plug[0, d]))
    assert verify_online(json.loads(json.dumps(bound_certificate(other, 5, 1)))).values["days"] == 2.0


def test_months_of_the_penalty_variant_have_certificates_too():
    fleet = TINY.replace(days=1, bid_limit=1.5)
    said = []
    data = bound_certificate(OnlineSolver(fleet, GAP, LIMIT_S), 5, 1, said.append)
    assert check(json.loads(json.dumps(data)), fleet).claims
    assert said == ["1 of 1 months bounded"]


def changed_day(**changes):
    return lambda data: data["days"][1].update({key: value(data["days"][1][key]) for key, value in changes.items()})


def cheaper(data):
    """Claim less, everywhere, as a consistent liar would."""
    for day in data["days"]:
        day["bound_usd"] -= 1.0
    data["mean_bound_usd"] -= 1.0


FORGERIES = {
    "mean": lambda d: d.update(mean_bound_usd=d["mean_bound_usd"] - 1e-3),
    "mean nan": lambda d: d.update(mean_bound_usd=float("nan")),
    "mean bool": lambda d: d.update(mean_bound_usd=True),
    "all lower": cheaper,
    "bound of a day": changed_day(bound_usd=lambda x: x - 1e-3),
    "value of a day": changed_day(value_usd=lambda x: x + 1e-3),
    "levels of a day": changed_day(levels=lambda x: [1 - x[0], *x[1:]]),
    "multiplier of a day": changed_day(multiplier=lambda x: 1.0),
    "days swapped": lambda d: d["days"].reverse(),
    "day missing": lambda d: d["days"].pop(),
    "day a list": lambda d: d["days"].__setitem__(0, []),
    "day with more": lambda d: d["days"][0].update(note="x"),
    "seed": lambda d: d["sample"].update(seed=6),
    "seed bool": lambda d: d["sample"].update(seed=True),
    "months": lambda d: d["sample"].update(n_samples=10**9),
    "months bool": lambda d: d["sample"].update(n_samples=True),
    "law": lambda d: d["sample"].update(law="other"),
    "less power": lambda d: d["requirements"][0].update(power_kw=d["requirements"][0]["power_kw"] * (1.0 - 1e-6)),
    "power nan": lambda d: d["requirements"][0].update(power_kw=float("nan")),
    "power bool": lambda d: d["requirements"][0].update(power_kw=True),
    "requirement twice": lambda d: d["requirements"].append(d["requirements"][0]),
    "no requirement": lambda d: d.update(requirements=[]),
    "requirement's field": lambda d: d["requirements"][0].pop("eta"),
    "instance": lambda d: d["instance"].update(shortfall_factor=20.0),
    "instance's hash": lambda d: d.update(instance_sha256="0" * 64),
    "instance broken": lambda d: d["instance"].update(drivers=-1),
    "unknown field": lambda d: d.update(note="x"),
    "missing field": lambda d: d.pop("days"),
    "kind": lambda d: d.update(kind="offline bound"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes_even_with_a_new_digest(certificate, name):
    honest = copy.deepcopy(certificate)
    FORGERIES[name](certificate)
    assert json.dumps(certificate) != json.dumps(honest)
    with pytest.raises(CertificateError):
        check(certificate, TINY)
    certificate["digest"] = digest(certificate)
    with pytest.raises(CertificateError):
        check(certificate, TINY)


def test_a_looser_discount_is_accepted_only_with_the_bounds_that_go_with_it(certificate):
    certificate["requirements"][0]["power_kw"] *= 1.01
    certificate["digest"] = digest(certificate)
    with pytest.raises(CertificateError, match="day 1 of month 1"):
        check(certificate, TINY)


def test_another_fleet_and_drivers_with_habits_are_refused(certificate):
    with pytest.raises(CertificateError, match="instance"):
        check(certificate, TINY.replace(drivers=199))
    habit = TINY.replace(habit_weight=0.5)
    certificate.update(instance=habit.to_dict(), instance_sha256=habit.hash)
    certificate["digest"] = digest(certificate)
    with pytest.raises(CertificateError, match="habit_weight"):
        check(json.loads(json.dumps(certificate)))
    with pytest.raises(InvalidInputError, match="habit_weight"):
        bound_certificate(OnlineSolver(habit), 5, 1)
    for months, seed, named in ((0, 5, "months"), (True, 5, "months"), (1, -1, "seed")):
        with pytest.raises(InvalidInputError, match=named):
            bound_certificate(OnlineSolver(TINY), seed, months)


def test_bounds_of_a_certificate_are_numbers_of_the_instance_alone(certificate):
    """The requirements in the file are those that anyone computes."""
    found = [each.__dict__ for each in OnlineSolver(TINY).requirements]
    for mine, theirs in zip(found, certificate["requirements"], strict=True):
        assert mine == pytest.approx(theirs)
    assert np.isfinite(certificate["mean_bound_usd"])
