"""Certificates of dispatches: what holds is confirmed, what does not is refused with its reason."""

import json

import numpy as np
import pytest

from baselines.certificate import CertificateError, pack, unpack
from baselines.scheduling.conic import solve
from baselines.scheduling.feeder_day import FeederDay
from baselines.scheduling.verify_conic import verify

DAY = FeederDay(robust="box")


@pytest.fixture(scope="module")
def text():
    return json.dumps(solve(DAY).certificate)


def moved(data, name, index, amount):
    values = unpack(data["point"][name]).copy()
    values.ravel()[index] += amount
    data["point"][name] = pack(values)


def test_a_certificate_survives_json_and_is_confirmed_with_and_without_its_instance(text):
    for instance in (DAY, None):
        report = verify(json.loads(text), instance)
        assert report.kind == "feeder dispatch"
        assert report.values["bound"] <= report.values["value"] * (1.0 + 1e-8)
        assert len(report.claims) == 3


def test_the_check_needs_no_solver(text, monkeypatch):
    import baselines.solve

    def forbidden(*args, **kwargs):
        raise AssertionError("a solver was asked")

    monkeypatch.setattr(baselines.solve.ConicProgram, "__init__", forbidden)
    assert verify(json.loads(text), DAY).values["gap"] < 1e-6


def test_any_multipliers_prove_a_bound_but_a_worse_one(text):
    data = json.loads(text)
    dual = unpack(data["dual"])
    rng = np.random.default_rng(0)
    with pytest.raises(CertificateError, match="bound"):
        verify(data | {"dual": pack(dual + 1e-3 * rng.normal(size=dual.shape))}, DAY)


def change_figure(name, factor):
    def change(data):
        data["figures"][name] = data["figures"][name] * factor + 1e-6

    return change


def change_instance(data):
    data["instance"]["reserve"] = 0.0


def change_shape(data):
    data["point"]["v"] = pack(unpack(data["point"]["v"])[:-1])


def change_dtype(data):
    data["dual"] = pack(unpack(data["dual"]).astype(np.float32))


def no_numbers(data):
    moved(data, "gas_p", 0, np.nan)


def another_state(data):
    moved(data, "gas_on", 2, -1.0)


def half_state(data):
    moved(data, "gas_on", 2, -0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_figure("value", 0.999), "figures.value = .*recomputed"),
        (change_figure("tightness_pu", 0.0), "figures.tightness_pu"),
        (change_figure("losses_relative", 2.0), "figures.losses_relative"),
        (change_figure("stress_lowest_pu", 1.001), "figures.stress_lowest_pu"),
        (lambda data: data.update(bound=data["bound"] * 1.001), "bound = "),
        (lambda data: data.update(gap=0.1), "gap = "),
        (lambda data: data.update(gap="0"), "gap = "),
        (lambda data: data.update(extra=1), "fields = "),
        (lambda data: data.pop("dual"), "fields = "),
        (lambda data: data["figures"].pop("value"), "figures = "),
        (lambda data: data["point"].pop("v"), "point = "),
        (lambda data: data.update(kind="feeder"), "kind = 'feeder'"),
        (lambda data: data.update(instance_sha256="0" * 64), "instance_sha256"),
        (lambda data: data["instance"].update(reserve=-1.0), "instance = invalid: reserve"),
        (change_instance, "instance_sha256"),
        (change_shape, "point.v"),
        (change_dtype, "dual = "),
        (no_numbers, "point.gas_p = 'not finite'"),
        (another_state, "figures"),
        (half_state, "point.gas_on"),
        (lambda data: moved(data, "gas_p", 40, 1e-3), "figures"),
        (lambda data: moved(data, "v", 40, 1e-3), "figures"),
    ],
)
def test_what_does_not_hold_is_refused_with_its_reason(text, change, reason):
    data = json.loads(text)
    change(data)
    with pytest.raises(CertificateError, match=reason):
        verify(data, DAY)


@pytest.mark.parametrize("other", [FeederDay(), FeederDay(robust="box", omega=2.0), {"feeder": "33"}])
def test_another_instance_is_refused(text, other):
    with pytest.raises(CertificateError, match="instance"):
        verify(json.loads(text), other)


def test_figures_that_match_but_are_out_of_limits_are_refused(text):
    from baselines.scheduling.conic import figures, states
    from baselines.scheduling.conic_point import complete
    from baselines.scheduling.conic_program import build

    data = json.loads(text)
    moved(data, "charge", 300, -1e-3)  # some energy that never was charged
    program = build(DAY)
    on = np.ones(program.layout.shapes["gas_on"])
    program = states(program, on, on)
    point = np.zeros(program.layout.columns)
    for name, stored in data["point"].items():
        point[program.layout.at(name)] = unpack(stored).ravel()
    data["figures"] = figures(program, complete(program, point))
    with pytest.raises(CertificateError, match="figures.violation_pu = .*at most"):
        verify(data, DAY)
