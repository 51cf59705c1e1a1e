"""Feeders and their exact power flow: published figures, a second method, closed forms, Kirchhoff, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import root

from v2g_env.core.feeder import FEEDERS, Feeder, feeder_of, power_flow
from v2g_env.core.radial import Tree
from v2g_env.core.validate import InvalidInputError

PUBLISHED = {"33": (202.68, 0.9131, 17), "69": (224.99, 0.9092, 64)}


def admittance(feeder):
    """Bus admittance matrix [S]."""
    matrix = np.zeros((feeder.buses, feeder.buses), complex)
    for (a, b), y in zip(feeder.tree.ends, 1.0 / (feeder.r_ohm + 1j * feeder.x_ohm), strict=True):
        matrix[a, a] += y
        matrix[b, b] += y
        matrix[a, b] -= y
        matrix[b, a] -= y
    return matrix


def newton(feeder, p_kw, q_kvar, source_pu=1.0):
    """Voltages [pu] as the root of the power mismatches in rectangular coordinates."""
    y_pu = admittance(feeder) * feeder.base_kv**2 / 1e3
    wanted = -(p_kw + 1j * q_kvar)[1:] / 1e6

    def voltages(parts):
        return np.concatenate([[source_pu], parts[: feeder.buses - 1] + 1j * parts[feeder.buses - 1 :]])

    def mismatch(parts):
        v = voltages(parts)
        difference = (v * np.conj(y_pu @ v))[1:] - wanted
        return np.concatenate([difference.real, difference.imag])

    start = np.concatenate([np.full(feeder.buses - 1, source_pu), np.zeros(feeder.buses - 1)])
    found = root(mismatch, start, tol=1e-14, method="hybr")
    assert np.abs(mismatch(found.x)).max() < 1e-10
    return voltages(found.x)


def random_feeder(rng, buses):
    ends = [(int(rng.integers(0, bus)), bus) for bus in range(1, buses)]
    ends = [(b, a) if rng.random() < 0.5 else (a, b) for a, b in ends]
    order = rng.permutation(buses - 1)
    z = rng.uniform(0.01, 1.0, (2, buses - 1))
    load = rng.uniform(-60.0, 120.0, (2, buses))
    return Feeder("random", 12.66, Tree(buses, tuple(ends[i] for i in order)), z[0], z[1], load[0], load[1])


@pytest.mark.parametrize("name", FEEDERS)
def test_losses_and_lowest_voltage_are_the_published_ones(name):
    feeder = feeder_of(name)
    losses, lowest, bus = PUBLISHED[name]
    flow = power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    assert abs(float(flow.losses_kw) - losses) < 0.01
    assert abs(flow.voltage_pu.min() - lowest) < 1e-4
    assert flow.voltage_pu.argmin() == bus


@pytest.mark.parametrize("name", FEEDERS)
def test_total_loads_are_the_published_ones(name):
    feeder = feeder_of(name)
    total = {"33": (3715.0, 2300.0), "69": (3802.1, 2694.7)}[name]
    assert feeder.buses == int(name)
    np.testing.assert_allclose((feeder.p_kw.sum(), feeder.q_kvar.sum()), total, atol=0.11)
    assert feeder.p_kw[0] == feeder.q_kvar[0] == 0.0


@pytest.mark.parametrize("name", FEEDERS)
@pytest.mark.parametrize("scale", [1.0, 0.3, -0.5])
def test_newton_on_the_admittance_matrix_finds_the_same_voltages(name, scale):
    feeder = feeder_of(name)
    rng = np.random.default_rng(3)
    p, q = (scale * load * rng.uniform(0.5, 1.2, feeder.buses) for load in (feeder.p_kw, feeder.q_kvar))
    flow = power_flow(feeder, p, q, source_pu=1.02)
    np.testing.assert_allclose(flow.voltage, newton(feeder, p, q, 1.02), atol=1e-9)


def test_pandapower_finds_the_same_losses():
    networks = pytest.importorskip("pandapower.networks")
    run = pytest.importorskip("pandapower").runpp
    net = networks.case33bw()
    run(net, tolerance_mva=1e-10)
    feeder = feeder_of("33")
    flow = power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    assert abs(1e3 * float(net.res_line.pl_mw.sum()) - float(flow.losses_kw)) < 1e-4
    np.testing.assert_allclose(net.res_bus.vm_pu, flow.voltage_pu, atol=1e-7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_kirchhoff_consumption_and_energy_hold_on_any_tree(seed, buses):
    feeder = random_feeder(np.random.default_rng(seed), buses)
    flow = power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    y_pu = admittance(feeder) * feeder.base_kv**2 / 1e3
    injected_kva = 1e6 * flow.voltage * np.conj(y_pu @ flow.voltage)
    np.testing.assert_allclose(-injected_kva[1:], (feeder.p_kw + 1j * feeder.q_kvar)[1:], atol=1e-5)
    assert abs(injected_kva.real.sum() - flow.losses_kw) < 1e-5
    roots = feeder.tree.line_above[np.flatnonzero(feeder.tree.parent == 0)]
    assert abs(flow.p_kw[roots].sum() - feeder.p_kw[1:].sum() - flow.losses_kw) < 1e-5
    np.testing.assert_allclose(3e-3 * (feeder.r_ohm * flow.current_a**2).sum(), flow.losses_kw, rtol=1e-12)


def test_one_line_has_its_closed_form():
    feeder = Feeder("two", 10.0, Tree(2, ((0, 1),)), [2.0], [1.5], [0.0, 800.0], [0.0, 300.0])
    flow = power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    # v^2 - (1 - 2 (r p + x q)) v + |z|^2 |s|^2 = 0 for the squared voltage, per unit of 100 MVA
    p, q, r, x = 800.0 / 1e5, 300.0 / 1e5, 2.0, 1.5
    b = 1.0 - 2.0 * (r * p + x * q)
    v = (b + np.sqrt(b**2 - 4.0 * (r**2 + x**2) * (p**2 + q**2))) / 2.0
    assert abs(flow.voltage_pu[1] ** 2 - v) < 1e-12
    assert abs(flow.losses_kw - 1e5 * r * (p**2 + q**2) / v) < 1e-8
    assert abs(flow.p_kw[0] - 800.0 - flow.losses_kw) < 1e-8


def test_a_batch_gives_what_its_items_give():
    feeder = feeder_of("33")
    scale = np.random.default_rng(0).uniform(-0.5, 1.2, (2, 3, 1))
    flow = power_flow(feeder, scale * feeder.p_kw, scale * feeder.q_kvar)
    assert flow.losses_kw.shape == (2, 3) and flow.voltage.shape == (2, 3, 33) and flow.p_kw.shape == (2, 3, 32)
    for at in np.ndindex(2, 3):
        one = power_flow(feeder, scale[at] * feeder.p_kw, scale[at] * feeder.q_kvar)
        for part, whole in zip(one, flow, strict=True):
            np.testing.assert_allclose(part, whole[at], rtol=1e-9, atol=1e-9)


def test_direction_of_lines_and_consumption_at_the_substation_play_no_part():
    feeder = feeder_of("33")
    turned = Tree(33, tuple((b, a) for a, b in feeder.tree.ends))
    other = Feeder("turned", 12.66, turned, feeder.r_ohm, feeder.x_ohm, feeder.p_kw, feeder.q_kvar)
    p = feeder.p_kw.copy()
    p[0] = 1e4
    one, two = power_flow(feeder, feeder.p_kw, feeder.q_kvar), power_flow(other, p, feeder.q_kvar)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_arrays_of_a_feeder_are_copies_and_read_only():
    given_r = np.ones(1)
    feeder = Feeder("two", 10.0, Tree(2, ((0, 1),)), given_r, [1.0], [0.0, 1.0], [0.0, 1.0])
    given_r[0] = 5.0
    assert feeder.r_ohm[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        feeder.r_ohm[0] = 2.0


def two(**changes):
    fields = {"r_ohm": [1.0], "x_ohm": [1.0], "p_kw": [0.0, 1.0], "q_kvar": [0.0, 1.0]} | changes
    return Feeder("two", fields.pop("base_kv", 10.0), Tree(2, ((0, 1),)), **fields)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: two(r_ohm=[-1.0]), r"r_ohm\[0\] = -1.0; allowed: \[0"),
        (lambda: two(x_ohm=[np.nan]), r"x_ohm\[0\] = nan; allowed: finite"),
        (lambda: two(r_ohm=[0.0], x_ohm=[0.0]), "impedance of line 0 = 0.0; allowed: positive"),
        (lambda: two(p_kw=[0.0, np.inf]), r"p_kw\[1\] = inf; allowed: finite"),
        (lambda: two(q_kvar=[0.0]), r"shape of q_kvar = \(1,\); allowed: \(2\)"),
        (lambda: two(base_kv=0.0), r"base_kv = 0.0; allowed"),
        (lambda: two(limit_kva=[-3.0]), r"limit_kva\[0\] = -3.0; allowed"),
        (lambda: Tree(3, ((0, 1), (1, 2), (2, 0))), r"line 2 = \(2, 0\); allowed: a line that closes no loop"),
        (lambda: Tree(4, ((0, 1), (2, 3))), "bus without a path to bus 0 = 2; allowed"),
        (lambda: feeder_of("34"), "feeder = '34'; allowed: one of 33, 69"),
        (lambda: power_flow(two(), [0.0, np.nan], [0.0, 1.0]), r"p_kw\[1\] = nan; allowed: finite"),
        (lambda: power_flow(two(), [0.0, 1.0, 2.0], [0.0, 1.0]), r"shape of p_kw = \(3,\); allowed: \(2\)"),
        (lambda: power_flow(two(), 3.0, 1.0), r"shape of p_kw = \(\); allowed"),
        (lambda: power_flow(two(), [0.0, 1.0], [0.0, 1.0], source_pu=0.0), "source_pu = 0.0; allowed"),
        (
            lambda: power_flow(two(), [[0.0, 1.0], [0.0, 1e6]], np.zeros((2, 2))),
            r"p_kw\[1\] in all = 1000000.0; allowed",
        ),
        (
            lambda: power_flow(two(), [0.0, 1e6], [0.0, 0.0]),
            "p_kw in all = 1000000.0; allowed: what feeder two carries",
        ),
    ],
)
def test_bad_input_gives_one_clear_error(build, text):
    with pytest.raises(InvalidInputError, match=text):
        build()


def test_power_flows_up_to_the_collapse_are_found_and_none_beyond():
    feeder = two()
    # unit power factor, r = x = 1 ohm, 100 MVA: the discriminant of the closed form vanishes at p = (sqrt 2 - 1) / 2
    edge = 1e5 * (np.sqrt(2.0) - 1.0) / 2.0
    flow = power_flow(feeder, [0.0, 0.99 * edge], [0.0, 0.0], sweeps=5000)
    assert flow.voltage_pu[1] < 0.72
    with pytest.raises(InvalidInputError, match="no power flow was found"):
        power_flow(feeder, [0.0, 1.01 * edge], [0.0, 0.0], sweeps=5000)


@pytest.mark.parametrize("name", ["33", "69"])
def test_currents_taken_from_the_receiving_ends_voltage_would_lose_two_percent_more(name):
    """The mistake that a tight cone does not show: l = (P^2 + Q^2) / v at the wrong end of the line."""
    feeder = feeder_of(name)
    tree, base = feeder.tree, 1e3 * feeder.base_kv**2
    r, x = feeder.r_ohm / base, feeder.x_ohm / base
    losses = {}
    for end in ("sending", "receiving"):
        v, current = np.ones(feeder.buses), np.zeros(feeder.buses - 1)
        for _ in range(60):
            p, q = feeder.p_kw.astype(float), feeder.q_kvar.astype(float)  # of everything below a bus, copies
            for bus in tree.order[:0:-1]:
                line = tree.line_above[bus]
                p[bus] += r[line] * current[line]
                q[bus] += x[line] * current[line]
                p[tree.parent[bus]] += p[bus]
                q[tree.parent[bus]] += q[bus]
            for bus in tree.order[1:]:
                line, above = tree.line_above[bus], tree.parent[bus]
                drop = 2.0 * (r[line] * p[bus] + x[line] * q[bus])
                v[bus] = v[above] - drop + (r[line] ** 2 + x[line] ** 2) * current[line]
                current[line] = (p[bus] ** 2 + q[bus] ** 2) / v[above if end == "sending" else bus]
        losses[end] = float(r @ current)
    exact = float(power_flow(feeder, feeder.p_kw, feeder.q_kvar).losses_kw)
    assert losses["sending"] == pytest.approx(exact, rel=1e-9)
    assert losses["receiving"] == pytest.approx(1.024 * exact, rel=1e-3)
