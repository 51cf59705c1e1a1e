"""The lot's physics and money against a slow simulator of single cars, hand numbers and the executability theorem."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.market import merit_order
from v2g_env.core.validate import InvalidInputError
from v2g_env.data.splits import DaySessions
from v2g_env.parking_lot.env import ParkingLotBaysEnv, ParkingLotEnv
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance
from v2g_env.parking_lot.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model, gate_ratio
from v2g_env.parking_lot.scenario import law, law_of, sample

F = {name: i for i, name in enumerate(FACTS)}
M = {name: i for i, name in enumerate(REWARD_TERMS)}
ROUNDING = 1e-9

SMALL_GRID = {"grid_limit_kw": 15.0, "load_base_kw": 3.0, "load_evening_kw": 20.0, "pv_peak_kw": 40.0}
LOTS = {
    "default": Instance(),
    "no gate": Instance(gate_closure_steps=0),
    "one bay": Instance(bays=1),
    "300 bays": Instance(bays=300),
    "96 quarter hours": Instance(open_h=0, close_h=24, step_h=0.25),
    "own limits": Instance(charger_spread=0.5, efficiency=0.8, headroom_low_kwh=0.0),
    "weak grid": Instance(**SMALL_GRID),
    "weak grid, no gate": Instance(gate_closure_steps=0, **SMALL_GRID),
    "lossless": Instance(efficiency=1.0, wear_usd_per_kwh=0.0),
    "charging cars": Instance(own_charging=True, bays=20),
} | {rule: Instance(dispatch=rule, charger_spread=0.2) for rule in DISPATCH_RULES[1:]}
TARGET_CASES = [(name, False) for name in LOTS]
BAY_CASES = [(name, True) for name in ("default", "no gate", "one bay", "96 quarter hours", "own limits", "weak grid")]


# A simulator of single cars, in plain Python


class SlowLot:
    """One episode as dictionaries of cars, written from the rules in words."""

    def __init__(self, model, scenario, row):
        lot = self.lot = model.instance
        self.plan = model.plan_kwh.tolist()
        self.ratio = gate_ratio(lot).tolist()
        self.per_bay = model.per_bay
        place = {int(k): r for r, k in enumerate(scenario.order[row])}
        self.cars = [
            {
                "id": k,
                "rank": place[k],
                "arrive": int(scenario.arrive[row, k]),
                "depart": int(scenario.depart[row, k]),
                "stated": float(scenario.stated[row, k]),
                "quota": float(scenario.quota_kwh[row, k]),
                "cap": float(scenario.cap_kwh[row, k]),
                "kw": float(scenario.charger_kw[row, k]),
                "bay": int(scenario.bay[row, k]),
                "energy": 0.0,
                "wish": 0.0,
            }
            for k in range(int(scenario.sessions[row]))
        ]
        self.surplus = scenario.surplus_kw[row].tolist()
        self.deficit = scenario.deficit_kw[row].tolist()
        self.t, self.stored, self.closed = 0, 0.0, 0.0
        self.trade = dict.fromkeys(("take", "give", "buy", "sell"), 0.0)

    def here(self, t):
        """Cars plugged in during step t."""
        return [c for c in self.cars if c["arrive"] <= t < c["depart"]]

    def staying(self, t):
        """Those that are still there in the step after."""
        return [c for c in self.here(t) if c["depart"] > t + 1]

    def capacity(self, t):
        """K_t [kWh]."""
        return math.fsum(c["quota"] for c in self.staying(t))

    def power(self, t):
        """P_t [kW]."""
        return math.fsum(c["kw"] for c in self.here(t))

    def close(self, step, action):
        """Fix what is stored at the end of ``step``: what the agent wants, as far as the grid can carry it."""
        lot, eta, tau = self.lot, self.lot.efficiency, self.lot.step_h
        self.trade = dict.fromkeys(self.trade, 0.0)
        self.closed = 0.0
        if step == lot.steps:
            return
        if self.per_bay:
            wanted = self.wishes(action)
        else:
            now = self.t
            top = self.capacity(now) * (self.ratio[now] if lot.gate_closure_steps else 1.0)
            wanted = (action[0] + 1.0) / 2.0 * max(top, self.plan[step])
            if abs(wanted - self.plan[step]) <= 1e-3:
                wanted = self.plan[step]
        if step == lot.steps - 1:
            wanted = 0.0
        most_in, most_out = self.surplus[step] + lot.grid_limit_kw, self.deficit[step] + lot.grid_limit_kw
        self.closed = max(0.0, self.stored - tau * most_out / eta, min(wanted, self.stored + tau * eta * most_in))
        change = self.closed - self.stored
        if change > 0.0:
            kw = change / eta / tau
            self.trade["take"] = min(kw, self.surplus[step])
            self.trade["buy"] = kw - self.trade["take"]
        else:
            kw = -change * eta / tau
            self.trade["give"] = min(kw, self.deficit[step])
            self.trade["sell"] = kw - self.trade["give"]

    def wishes(self, action):
        """Sum of what the agent wants in each car [kWh]."""
        eta, tau = self.lot.efficiency, self.lot.step_h
        for c in self.cars:
            c["wish"] = 0.0
        for c in self.staying(self.t):
            kw = action[c["bay"]] * c["kw"]
            change = tau * eta * kw if kw > 0 else tau * kw / eta
            c["wish"] = min(max(c["energy"] + change, 0.0), c["cap"])
        return math.fsum(c["wish"] for c in self.staying(self.t))

    def targets(self):
        """What the dispatch rule would have in each staying car before the sum is put right."""
        staying, rule = self.staying(self.t), self.lot.dispatch
        if self.per_bay:
            return {c["id"]: c["wish"] for c in staying}
        if rule == "minimal_move":
            return {c["id"]: c["energy"] for c in staying}
        if rule == "proportional":
            share = min(1.0, self.closed / self.capacity(self.t)) if self.capacity(self.t) > 0 else 0.0
            return {c["id"]: c["quota"] * share for c in staying}
        return {c["id"]: 0.0 for c in staying}

    def dispatch(self):
        """Empty the announced cars, put the others right in the rule's order; returns energy up, down, lost."""
        eta, tau = self.lot.efficiency, self.lot.step_h
        target = self.targets()
        gap = self.closed - math.fsum(target.values())
        for c in sorted(self.staying(self.t), key=lambda c: c["rank"], reverse=gap < 0):
            if gap > 0:
                room = min(c["quota"], c["energy"] + eta * c["kw"] * tau) - target[c["id"]]
                move = min(gap, max(room, 0.0))
            else:
                spare = target[c["id"]] - max(0.0, c["energy"] - c["kw"] * tau / eta)
                move = -min(-gap, max(spare, 0.0))
            target[c["id"]] += move
            gap -= move
        up = down = lost = 0.0
        for c in self.cars:
            if c["id"] in target:
                change = target[c["id"]] - c["energy"]
                up, down = up + max(change, 0.0), down + max(-change, 0.0)
                c["energy"] = target[c["id"]]
            elif c["energy"] > 0.0:
                out = min(c["energy"], c["kw"] * tau / eta)
                down, lost = down + out, lost + c["energy"] - out
                c["energy"] = 0.0
        self.stored = math.fsum(c["energy"] for c in self.cars)
        return up, down, lost

    def step(self, action):
        """Money and facts of one step as dictionaries."""
        lot, t = self.lot, self.t
        eta, tau = lot.efficiency, lot.step_h
        if lot.gate_closure_steps == 0:
            self.close(t, action)
        closed, trade = self.closed, dict(self.trade)
        up, down, lost = self.dispatch()
        buy = lot.buy_usd_per_kwh[int(lot.open_h + (t + 0.5) * tau)]
        missing = closed - self.stored
        off = max(abs(missing), abs(missing - lost))
        money = {
            "fee": -lot.fee_fraction * buy * tau * trade["take"],
            "return": lot.return_fraction * buy * tau * trade["give"],
            "retail_buy": -buy * tau * trade["buy"],
            "retail_sell": lot.sell_fraction * buy * tau * trade["sell"],
            "wear": -lot.wear_usd_per_kwh * tau * sum(trade.values()),
            "imbalance": -lot.imbalance_fraction * max(lot.buy_usd_per_kwh) * off,
        }
        through = min(up, down)  # moved from bay to bay: bought through/eta, gets through x eta back
        money["redistribution"] = -buy * (through / eta - through * eta)
        money["redistribution"] -= lot.wear_usd_per_kwh * (through / eta + through * eta)
        limit, unit = self.power(t), lot.charger_kw
        facts = {
            "excess": max(
                (closed - self.capacity(t)) / (unit * tau),
                (trade["take"] + trade["buy"] - limit) / unit,
                (trade["give"] + trade["sell"] - limit) / unit,
            ),
            "shortfall_kwh": max(missing, 0.0),
            "imbalance_kwh": off,
            "lost_kwh": lost,
            "stored_kwh": self.stored,
            "closed_kwh": closed,
            "capacity_kwh": self.capacity(t),
            "charged_kwh": up / eta,
            "discharged_kwh": down * eta,
        }
        if lot.gate_closure_steps == 1:
            self.close(t + 1, action)
        self.t += 1
        return money, facts

    def observe(self):
        """The observed quantities in kWh, kW, 1 and $/kWh, as the docstring's table names them."""
        lot, t = self.lot, self.t
        here, staying, capacity = self.here(t), self.staying(t), self.capacity(t)
        ahead = min(self.closed, capacity) if lot.gate_closure_steps else self.stored
        step = t + lot.gate_closure_steps
        seen = {
            "stored": self.stored,
            "ahead": ahead,
            "capacity": capacity,
            "capacity_1": self.capacity(t - 1) if t >= 1 else 0.0,
            "capacity_2": self.capacity(t - 2) if t >= 2 else 0.0,
            "free": max(capacity - ahead, 0.0),
            "fill": min(ahead / capacity, 1.0) if capacity > 0 else 0.0,
            "power": self.power(t),
            "leaving": sum(c["quota"] for c in here if c not in staying),
            "arrived": sum(c["quota"] for c in staying if c["arrive"] == t),
            "parked_6h": sum(c["quota"] for c in staying if (t - c["arrive"]) * lot.step_h >= 6.0),
            "surplus": self.surplus[step],
            "deficit": self.deficit[step],
            "price": float(lot.buy[t]),
            "price_next": float(lot.buy[t + 1]) if t + 1 < lot.steps else 0.0,
            "plan_next": self.plan[step] if step < lot.steps else 0.0,
        }
        hours = {c["id"]: (c["stated"] - t) * lot.step_h for c in staying}
        seen["stated_1h"] = sum(c["quota"] for c in staying if hours[c["id"]] <= 1)
        seen["stated_2h"] = sum(c["quota"] for c in staying if 1 < hours[c["id"]] <= 2)
        seen["stated_3h"] = sum(c["quota"] for c in staying if 2 < hours[c["id"]] <= 3)
        seen["stated_4h"] = sum(c["quota"] for c in staying if hours[c["id"]] > 3)
        return seen


def drive(model, scenario, seed, mild=False):
    """Random actions through the whole horizon; yields (t, state, action, next state, money, facts)."""
    rng = np.random.default_rng(seed)
    state = model.initial(scenario)
    for t in range(model.instance.steps):
        action = rng.uniform(-1.0, 1.0, (len(scenario.day), model.action_size))
        if not mild:
            action = np.clip(1.6 * action, -1.0, 1.0)
        following, money, facts = model.step(scenario, state, action)
        yield t, state, action, following, money, facts
        state = following


def random_plan(lot, seed):
    capacity = sample(lot, law("generator"), 1, 99).capacity_kwh[0, :-1]
    return np.random.default_rng(seed).uniform(0.0, 1.0, lot.steps) * capacity


@pytest.mark.parametrize(
    ("name", "per_bay"), TARGET_CASES + BAY_CASES, ids=lambda v: {True: "bays", False: "target"}.get(v, v)
)
@pytest.mark.parametrize("with_plan", [False, True], ids=["free", "plan"])
def test_kernel_equals_the_slow_simulator(name, per_bay, with_plan):
    lot = LOTS[name]
    model = Model(lot, "generator", random_plan(lot, 1) if with_plan else None, per_bay)
    scenario = sample(lot, model.law, 3, 12)
    slow = [SlowLot(model, scenario, i) for i in range(3)]
    scale = {"power": 200.0, "surplus": 200.0, "deficit": 200.0, "fill": 1.0, "price": 1.0, "price_next": 1.0}
    for t, state, action, _, money, facts in drive(model, scenario, 5):
        observed = model.observe(scenario, state).astype(float)
        for i, one in enumerate(slow):
            for key, value in one.observe().items():
                place = model.observation_layout[key]
                got = observed[i, place].item() * scale.get(key, 200.0)
                assert got == pytest.approx(value, rel=1e-6, abs=1e-4), (t, key)
            assert observed[i, : lot.steps].tolist() == [float(s == t) for s in range(lot.steps)]
            want_money, want_facts = one.step(action[i].tolist())
            for key, value in want_money.items():
                assert money[i, M[key]] == pytest.approx(value, rel=1e-12, abs=ROUNDING), (t, key)
            for key, value in want_facts.items():
                assert facts[i, F[key]] == pytest.approx(value, rel=1e-12, abs=ROUNDING), (t, key)


# Energy


CASES = [(rule, False, gate) for rule in DISPATCH_RULES for gate in (0, 1)] + [
    ("minimal_move", True, g) for g in (0, 1)
]


@pytest.mark.parametrize(
    "lot", [Instance(), Instance(charger_spread=0.6, efficiency=0.8), Instance(step_h=0.25, bays=20)]
)
@pytest.mark.parametrize(("rule", "per_bay", "gate"), CASES)
def test_ledger_closes_and_chargers_keep_their_limits(rule, per_bay, gate, lot):
    lot = lot.replace(dispatch=rule, gate_closure_steps=gate)
    eta, tau = lot.efficiency, lot.step_h
    model = Model(lot, "generator", per_bay=per_bay)
    scenario = sample(lot, model.law, 60, 4)
    moved = 0.0
    for t, state, _, following, _, facts in drive(model, scenario, 3):
        before, after = state.bay_kwh, following.bay_kwh
        up, down, lost = (facts[:, F[k]] for k in ("charged_kwh", "discharged_kwh", "lost_kwh"))
        np.testing.assert_allclose(after.sum(axis=1), following.stored_kwh, atol=ROUNDING)
        np.testing.assert_allclose(following.stored_kwh, facts[:, F["stored_kwh"]], atol=0)
        change = following.stored_kwh - state.stored_kwh
        np.testing.assert_allclose(up * eta - down / eta - lost, change, atol=ROUNDING)
        # each car on its own
        leaving = (scenario.arrive <= t) & (scenario.depart == t + 1)
        limit_up, limit_down = eta * tau * scenario.charger_kw, tau * scenario.charger_kw / eta
        assert (after >= 0.0).all()
        assert (after <= scenario.cap_kwh + ROUNDING).all()
        assert (after - before <= limit_up + ROUNDING).all()
        assert (before - after <= limit_down + ROUNDING)[~leaving].all()
        excess_left = np.where(leaving, np.maximum(before - limit_down, 0.0), 0.0).sum(axis=1)
        np.testing.assert_allclose(lost, excess_left, atol=ROUNDING)
        gone = (scenario.depart <= t + 1) | (scenario.arrive > t)
        assert not after[gone].any()
        assert (up * eta <= np.where(~leaving, limit_up, 0).sum(axis=1)).all()
        assert (lost >= 0.0).all()
        if not per_bay:
            assert not lost.any()
            assert (after <= scenario.quota_kwh + ROUNDING).all()
        moved += up.sum()
    assert moved > 100.0
    assert not following.stored_kwh.any()
    assert not following.bay_kwh.any()
    assert (following.t == lot.steps).all()


def test_step_changes_neither_state_nor_scenario_nor_action():
    for per_bay in (False, True):
        model = Model(Instance(), per_bay=per_bay)
        scenario = sample(model.instance, model.law, 4, 1)
        frozen = copy.deepcopy(scenario)
        for t, state, action, _, _, _ in drive(model, scenario, 2):
            before, given_action = copy.deepcopy(state), action.copy()
            model.step(scenario, state, action)
            model.observe(scenario, state)
            for a, b in zip((*state, action), (*before, given_action), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=str(t))
        for a, b in zip(scenario, frozen, strict=True):
            np.testing.assert_array_equal(a, b)


def test_step_after_the_end_does_nothing():
    model = Model(Instance())
    scenario = sample(model.instance, model.law, 2, 1)
    *_, (_, _, action, end, _, _) = drive(model, scenario, 2)
    following, money, facts = model.step(scenario, end, action)
    for a, b in zip(end, following, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not money.any()
    assert not facts.any()
    assert not model.observe(scenario, end).any()


# Executability


def carry_out(model, scenario, plan):
    """Put the plan's points at the gate whatever the agent's range; returns facts (n, T, facts)."""
    state = model.initial(scenario)
    idle = -np.ones((len(scenario.day), model.action_size))
    out = []
    for t in range(model.instance.steps):
        state = state._replace(closed_kwh=plan[:, t].copy())
        state, _, facts = model.step(scenario, state, idle)
        out.append(facts)
    return np.stack(out, axis=1)


PLAN_LOTS = [
    Instance(),
    Instance(charger_spread=0.7, efficiency=0.7, headroom_low_kwh=0.0),
    Instance(step_h=0.25, bays=30),
    Instance(bays=1, drop_fraction=0.3),
]


@pytest.mark.parametrize("lot", PLAN_LOTS, ids=["default", "uneven", "quarter hours", "one bay"])
@pytest.mark.parametrize("rule", DISPATCH_RULES)
def test_every_plan_within_capacity_is_carried_out_by_every_rule(rule, lot):
    lot = lot.replace(dispatch=rule)
    model = Model(lot)
    scenario = sample(lot, model.law, 200, 8)
    rng = np.random.default_rng(1)
    capacity = scenario.capacity_kwh[:, :-1]
    share = rng.uniform(0.0, 1.0, capacity.shape)
    # smooth plans, wild plans that jump between nothing and all, and the capacity itself
    for shares in (share, rng.integers(0, 2, capacity.shape).astype(float), np.ones(capacity.shape)):
        plan = shares * capacity
        facts = carry_out(model, scenario, plan)
        np.testing.assert_allclose(facts[:, :, F["stored_kwh"]], plan, atol=ROUNDING)
        assert facts[:, :, F["shortfall_kwh"]].max() <= ROUNDING
        assert facts[:, :, F["imbalance_kwh"]].max() <= ROUNDING
        assert facts[:, :, F["lost_kwh"]].max() == 0.0


@pytest.mark.parametrize("rule", DISPATCH_RULES)
def test_plan_counting_announced_cars_fails_on_every_day(rule):
    lot = Instance(dispatch=rule)
    model = Model(lot)
    scenario = sample(lot, model.law, 200, 8)
    used = np.arange(scenario.arrive.shape[1]) < scenario.sessions[:, None]
    counted = np.stack(
        [
            np.where(used & (scenario.arrive <= t) & (t < scenario.depart), scenario.quota_kwh, 0.0).sum(axis=1)
            for t in range(lot.steps)
        ],
        axis=1,
    )
    assert (counted >= scenario.capacity_kwh[:, :-1] - ROUNDING).all()
    plan = np.random.default_rng(1).uniform(0.8, 1.0, counted.shape) * counted
    plan[:, -1] = 0.0  # the end of the day fails anyway
    facts = carry_out(model, scenario, plan)
    assert (facts[:, :, F["shortfall_kwh"]].max(axis=1) > 0.1).all()
    # what can be there is there all the same
    np.testing.assert_allclose(
        facts[:, :, F["stored_kwh"]], np.minimum(plan, scenario.capacity_kwh[:, :-1]), atol=ROUNDING
    )


def test_full_quota_cannot_always_be_carried_out():
    model = Model(Instance())
    scenario = sample(model.instance, model.law, 50, 8)
    facts = carry_out(model, scenario, scenario.full_kwh[:, :-1])
    assert (facts[:, :, F["shortfall_kwh"]].max(axis=1) > 1.0).all()


@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("bays", [52, 300])
def test_plan_is_met_exactly_through_float32_actions(gate, bays):
    """Not to 1e-5, but bit for bit, whenever its points are within reach of the present cars."""
    lot = Instance(bays=bays, gate_closure_steps=gate)
    source = law("generator")
    worst = sample(lot, source, 400, 2).capacity_kwh[:, :-1].min(axis=0)
    plan = 0.999 * worst * np.random.default_rng(4).uniform(0.2, 1.0, lot.steps)
    if gate:
        plan[0] = 0.0  # nothing can be fixed for the first step
    model = Model(lot, source, plan)
    scenario = sample(lot, source, 400, 2)
    state = model.initial(scenario)
    for t in range(lot.steps):
        step = min(t + gate, lot.steps - 1)
        action = model.action_for(np.full(400, plan[step]), t, scenario.capacity_kwh[:, t]).astype(np.float32)
        state, _, facts = model.step(scenario, state, action.astype(np.float64))
        assert (facts[:, F["closed_kwh"]] == plan[t]).all()
        np.testing.assert_allclose(facts[:, F["stored_kwh"]], plan[t], atol=ROUNDING)
        assert facts[:, F["excess"]].max() <= VIOLATION_TOLERANCE


@pytest.mark.parametrize("gate", [0, 1])
def test_action_for_fixes_the_wanted_energy(gate):
    model = Model(Instance(gate_closure_steps=gate, grid_limit_kw=5000.0))
    scenario = sample(model.instance, model.law, 50, 3)
    rng = np.random.default_rng(2)
    ratio = gate_ratio(model.instance) if gate else np.ones(13)
    state = model.initial(scenario)
    for t in range(12 - gate):
        capacity = scenario.capacity_kwh[:, t]
        wanted = rng.uniform(0.01, 1.0, 50) * ratio[t] * capacity
        following, _, facts = model.step(scenario, state, model.action_for(wanted, t, capacity))
        closed = following.closed_kwh if gate else facts[:, F["closed_kwh"]]
        np.testing.assert_allclose(closed, wanted, atol=ROUNDING)
        too_much = model.action_for(np.full(50, 1e6), t, capacity)
        np.testing.assert_array_equal(too_much, np.where(ratio[t] * capacity > 0, 1.0, -1.0)[:, None])
        state = following


# Violations


@pytest.mark.parametrize(
    "options", [{}, {"instance": {"gate_closure_steps": 0}, "plan_kwh": [400.0] * 13}, {"instance": SMALL_GRID}]
)
@pytest.mark.parametrize("cls", [ParkingLotEnv, ParkingLotBaysEnv])
def test_violation_is_told_exactly_when_scaled_excess_is_above_the_tolerance(cls, options):
    env = cls(**options)
    rng = np.random.default_rng(3)
    happened = set()
    for seed in range(12):
        env.reset(seed=seed)
        slow = SlowLot(env.model, env.get_state()["scenario"], 0)
        for _ in range(env.horizon):
            action = rng.uniform(-0.2, 1.0, env.action_space.shape).astype(np.float32)
            _, facts = slow.step(action.astype(float).tolist())
            *_, info = env.step(action)
            assert info["violation"] == (facts["excess"] > 1e-6)
            if not env.per_bay:
                assert (info["shortfall_kwh"] > 1e-5) == (facts["closed_kwh"] > facts["capacity_kwh"] + 1e-5)
            happened.add(info["violation"])
    assert happened == {False, True}


@pytest.mark.parametrize("rule", DISPATCH_RULES)
@pytest.mark.parametrize("lot", PLAN_LOTS[:3], ids=["default", "uneven", "quarter hours"])
def test_without_gate_closure_no_target_violates(rule, lot):
    model = Model(lot.replace(gate_closure_steps=0, dispatch=rule))
    scenario = sample(model.instance, model.law, 150, 6)
    for *_, facts in drive(model, scenario, 7):
        assert facts[:, F["excess"]].max() <= VIOLATION_TOLERANCE
        assert facts[:, F["imbalance_kwh"]].max() <= ROUNDING


def test_with_gate_closure_some_targets_violate_and_pay_for_it():
    model = Model(Instance())
    scenario = sample(model.instance, model.law, 300, 6)
    for _, _, _, _, money, facts in drive(model, scenario, 7):
        short = facts[:, F["shortfall_kwh"]]
        np.testing.assert_allclose(money[:, M["imbalance"]], -0.45 * short, atol=ROUNDING)
        np.testing.assert_allclose(
            short, np.maximum(facts[:, F["closed_kwh"]] - facts[:, F["capacity_kwh"]], 0), atol=ROUNDING
        )
    top = np.ones((300, 1))
    state, violated = model.initial(scenario), np.zeros(300, bool)
    for _ in range(13):
        state, _, facts = model.step(scenario, state, top)
        violated |= facts[:, F["excess"]] > VIOLATION_TOLERANCE
    assert 0.5 < violated.mean() <= 1.0


def test_gate_ratio_is_exceeded_on_a_tenth_of_the_fitting_days():
    lot = Instance()
    ratio = gate_ratio(lot)
    capacity = sample(lot, law("days:jpl-2019/fit"), 96 * 30, 5).capacity_kwh
    for t in range(11):
        there = capacity[:, t] > 0
        got, limit = capacity[there, t + 1], ratio[t] * capacity[there, t]
        # whole cars give ties: many days may lie on the quantile itself
        assert (got > limit + ROUNDING).mean() <= 0.1 + 0.02
        assert (got >= limit - ROUNDING).mean() >= 0.1 - 0.02
    assert ratio[-1] == 0.0
    assert ratio[-2] == 0.0  # nobody stays beyond the last step


# Redistribution


@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("lot", [Instance(), Instance(efficiency=0.8, charger_spread=0.4, wear_usd_per_kwh=0.02)])
def test_redistribution_of_minimal_moves_is_bounded(gate, lot):
    """(1/eta - eta) min(U, D) plus wear, with min(U, D) at most what was stored and what the leaving cars can hold."""
    lot = lot.replace(gate_closure_steps=gate)
    eta, wear = lot.efficiency, lot.wear_usd_per_kwh
    model = Model(lot)
    scenario = sample(lot, model.law, 200, 9)
    most = 0.0
    for t, state, _, _, money, facts in drive(model, scenario, 9):
        up, down = facts[:, F["charged_kwh"]] * eta, facts[:, F["discharged_kwh"]] / eta
        through = np.minimum(up, down)
        leaving = (scenario.arrive <= t) & (scenario.depart == t + 1)
        quota = np.where(leaving, scenario.quota_kwh, 0.0).sum(axis=1)
        inside = np.where(leaving, state.bay_kwh, 0.0).sum(axis=1)
        assert (through <= np.minimum(state.stored_kwh, quota) + ROUNDING).all()
        assert (through <= inside + ROUNDING).all()  # only what has to leave is moved
        price = lot.buy[t]
        loss_kwh = (1.0 / eta - eta) * through
        want = -price * loss_kwh - wear * (1.0 / eta + eta) * through
        np.testing.assert_allclose(money[:, M["redistribution"]], want, atol=ROUNDING)
        # one direction: whatever is not forced out moves up or down, never both
        others = np.where(leaving, 0.0, np.maximum(state.bay_kwh, 0.0)).sum(axis=1)
        assert (np.minimum(up, down - inside) <= ROUNDING).all()
        assert (down - inside <= others + ROUNDING).all()
        most = max(most, through.max())
    assert most > 1.0


def test_minimal_moves_redistribute_least():
    totals, others = {}, {}
    for rule in DISPATCH_RULES:
        model = Model(Instance(dispatch=rule))
        scenario = sample(model.instance, model.law, 200, 9)
        money = sum(earned for *_, earned, _ in drive(model, scenario, 9))
        totals[rule] = money[:, M["redistribution"]]
        others[rule] = np.delete(money, M["redistribution"], axis=1)
    for rule in DISPATCH_RULES[1:]:
        assert totals[rule].mean() < totals["minimal_move"].mean() < 0.0
        np.testing.assert_allclose(others[rule], others["minimal_move"], atol=1e-8)  # the rule changes nothing else


# Hand numbers


def one_day(cars, lot):
    """A law of one day; cars are (arrival, departure, stated)."""
    columns = np.array([(*car, 0.0) for car in sorted(cars)]).T.copy()
    return law_of(DaySessions("hand", ("2019-01-01",), np.array([0, len(cars)]), *columns), "days")


PRICES = tuple({10: 0.1, 11: 0.2, 12: 0.4, 13: 0.3}.get(h, 0.25) for h in range(24))
HAND = Instance(
    bays=1,
    open_h=10,
    close_h=14,
    charger_kw=10,
    efficiency=0.8,
    headroom_low_kwh=6,
    headroom_high_kwh=6,
    buy_usd_per_kwh=PRICES,
    pv_peak_kw=0,
    load_base_kw=2,
    load_evening_kw=0,
    load_morning_kw=0,
    pv_sd=0,
    load_sd=0,
    wear_usd_per_kwh=0.01,
    gate_closure_steps=0,
)


def assert_money(got, **want):
    for name, i in M.items():
        assert got[0, i] == pytest.approx(want.get(name, 0.0), abs=1e-12), name


def test_one_bay_four_steps_by_hand():
    """A car from 10 to 13 with 6 kWh of room; the community always needs 2 kW."""
    model = Model(HAND, one_day([(10.0, 13.0, 14.0)], HAND))
    scenario = sample(HAND, model.law, 1, 1)
    assert scenario.capacity_kwh.tolist() == [[6, 6, 0, 0, 0]]
    assert scenario.power_kw.tolist() == [[10, 10, 10, 0, 0]]
    assert scenario.deficit_kw.tolist() == [[2, 2, 2, 2, 0]]
    state = model.initial(scenario)
    # 10 h: to 4 kWh of 6, a = 2 x 4/6 - 1; 4 / .8 = 5 kW bought at .10
    state, money, facts = model.step(scenario, state, np.array([[1 / 3]]))
    assert_money(money, retail_buy=-0.5, wear=-0.05)
    assert facts[0, F["stored_kwh"]] == pytest.approx(4.0)
    assert facts[0, F["charged_kwh"]] == pytest.approx(5.0)
    assert facts[0, F["excess"]] == pytest.approx((4 - 6) / 10)
    # 11 h: 4 to 6 kWh; 2.5 kW bought at .20
    state, money, facts = model.step(scenario, state, np.array([[1.0]]))
    assert_money(money, retail_buy=-0.5, wear=-0.025)
    assert facts[0, F["excess"]] == pytest.approx(0.0)
    # 12 h: announced, 6 to 0 kWh; 4.8 kW out: 2 to the community at .9 x .40, 2.8 to the retailer at .4 x .40
    state, money, facts = model.step(scenario, state, np.array([[1.0]]))
    assert_money(money, **{"return": 0.72, "retail_sell": 0.448, "wear": -0.048})
    assert facts[0, F["discharged_kwh"]] == pytest.approx(4.8)
    assert facts[0, F["excess"]] == pytest.approx(0.0)  # 0 kWh in no capacity; 4.8 of 10 kW
    # 13 h: nobody there
    state, money, facts = model.step(scenario, state, np.array([[1.0]]))
    assert_money(money)
    assert facts[0, F["excess"]] == 0.0


def test_surplus_is_taken_first_by_hand():
    """Steps centred on 11, 12 and 13 h: at noon the panels give their peak of 7 kW, and there is no load."""
    lot = HAND.replace(open_h=10.5, close_h=13.5, pv_peak_kw=7, load_base_kw=0, headroom_low_kwh=8, headroom_high_kwh=8)
    model = Model(lot, one_day([(10.0, 14.0, 14.0)], lot))
    scenario = sample(lot, model.law, 1, 1)
    assert scenario.surplus_kw[0, 1] == pytest.approx(7.0)
    state, money, _ = model.step(scenario, model.initial(scenario), np.array([[-1.0]]))
    assert_money(money)
    # 12 h: 0 to 8 kWh needs 10 kW: 7 from the community at .4 x .40, 3 from the retailer at .40
    state, money, facts = model.step(scenario, state, np.array([[1.0]]))
    assert_money(money, fee=-0.4 * 0.4 * 7, retail_buy=-1.2, wear=-0.1)
    assert facts[0, F["excess"]] == pytest.approx(0.0)
    # 13 h: 8 to 0 kWh gives 6.4 kW; no deficit, all to the retailer at .4 x .30
    _, money, _ = model.step(scenario, state, np.array([[0.0]]))
    assert_money(money, retail_sell=0.4 * 0.3 * 6.4, wear=-0.064)


def test_gate_closure_redistribution_and_shortfall_by_hand():
    """Two cars; the one filled first leaves after 13 h although it said 15 h."""
    lot = HAND.replace(bays=2, close_h=15, gate_closure_steps=1)
    source = one_day([(10.0, 13.0, 15.0), (10.0, 15.0, 14.0)], lot)
    plan = [0.0, 5.0, 5.0, 8.0, 0.0]
    model = Model(lot, source, plan)
    scenario = sample(lot, source, 1, 1)
    assert scenario.capacity_kwh.tolist() == [[12, 12, 6, 6, 0, 0]]

    def step(state, t):
        return model.step(
            scenario, state, model.action_for(np.array([plan[min(t + 1, 4)]]), t, scenario.capacity_kwh[:, t])
        )

    # 10 h: nothing was fixed for this step
    state, money, _ = step(model.initial(scenario), 0)
    assert_money(money)
    assert state.closed_kwh.tolist() == [5.0]
    # 11 h: 5 kWh into the car that says 15 h; 6.25 kW at .20
    state, money, _ = step(state, 1)
    assert_money(money, retail_buy=-1.25, wear=-0.0625)
    assert state.bay_kwh[0, :2].tolist() == [5.0, 0.0]
    # 12 h: it is announced; its 5 kWh move over: (1.25 - .8) x 5 at .40 and (1.25 + .8) x 5 of wear
    state, money, facts = step(state, 2)
    assert_money(money, redistribution=-(0.45 * 5 * 0.4 + 2.05 * 5 * 0.01))
    assert state.bay_kwh[0, :2].tolist() == [0.0, 5.0]
    assert facts[0, F["charged_kwh"]] == pytest.approx(6.25)
    assert facts[0, F["discharged_kwh"]] == pytest.approx(4.0)
    # 13 h: 8 kWh were fixed, but the remaining car holds 6: 2 kWh short at the imbalance price .40;
    # what was bought at the gate is paid for: 3 / .8 = 3.75 kW at .30
    state, money, facts = step(state, 3)
    assert_money(money, retail_buy=-1.125, wear=-0.0375, imbalance=-0.8)
    assert facts[0, F["excess"]] == pytest.approx(0.2)
    assert facts[0, F["shortfall_kwh"]] == pytest.approx(2.0)
    # 14 h: the real 6 kWh go: 4.8 kW, 2 returned at .9 x .25, 2.8 sold at .4 x .25
    state, money, facts = step(state, 4)
    assert_money(money, **{"return": 0.45, "retail_sell": 0.28, "wear": -0.048})
    assert facts[0, F["excess"]] == 0.0
    assert state.stored_kwh.tolist() == [0.0]


def test_energy_left_in_a_departing_car_by_hand():
    """Bay by bay a car can be filled to its cap of 20 kWh; 12.5 kWh come out in its last hour, the rest is lost."""
    lot = HAND.replace(headroom_low_kwh=20, headroom_high_kwh=20)
    source = one_day([(10.0, 13.0, 14.0)], lot)
    model = Model(lot, source, per_bay=True)
    scenario = sample(lot, source, 1, 1)
    assert scenario.capacity_kwh.tolist() == [[8, 8, 0, 0, 0]]
    full, state = np.array([[1.0]]), model.initial(scenario)
    for price, stored in ((0.1, 8.0), (0.2, 16.0)):
        state, money, facts = model.step(scenario, state, full)
        assert_money(money, retail_buy=-10 * price, wear=-0.1)
        assert facts[0, F["stored_kwh"]] == pytest.approx(stored)
    assert facts[0, F["excess"]] == pytest.approx(0.8)  # 16 kWh are more than one step can take out
    # 12 h: zero is fixed: 12.8 kW leave, 2 returned, 10.8 sold; 12.5 come out of the car, 3.5 are lost and bought back
    state, money, facts = model.step(scenario, state, full)
    assert facts[0, F["lost_kwh"]] == pytest.approx(3.5)
    assert facts[0, F["discharged_kwh"]] == pytest.approx(10.0)
    assert_money(money, **{"return": 0.72, "retail_sell": 1.728, "wear": -0.128, "imbalance": -0.4 * 3.5})
    assert facts[0, F["excess"]] == pytest.approx(0.28)
    assert state.stored_kwh.tolist() == [0.0]


def test_dispatch_rules_fill_and_empty_in_their_order_by_hand():
    """Three cars of 6 kWh that state 12, 13 and 14 h; 7 kWh are stored, then 3 kWh."""
    cars = [(10.0, 14.0, 12.0), (10.0, 14.0, 13.0), (10.0, 14.0, 14.0)]
    want = {
        "minimal_move": ([0, 1, 6], [0, 0, 3]),
        "earliest_departure": ([0, 1, 6], [0, 0, 3]),
        "least_laxity": ([0, 1, 6], [0, 0, 3]),
        "proportional": ([7 / 3] * 3, [1.0] * 3),
    }
    for rule in DISPATCH_RULES:
        lot = HAND.replace(bays=3, dispatch=rule)
        model = Model(lot, one_day(cars, lot))
        scenario = sample(lot, model.law, 1, 1)
        state = model.initial(scenario)
        for target, bays in zip((7.0, 3.0), want[rule], strict=True):
            action = model.action_for(np.array([target]), int(state.t[0]), np.array([18.0]))
            state, _, _ = model.step(scenario, state, action)
            np.testing.assert_allclose(state.bay_kwh[0, :3], bays, atol=1e-9)


def test_minimal_move_keeps_what_it_has_where_refilling_would_move_it():
    """A car that states a later departure arrives: refilling in order moves energy to it, minimal moves do not."""
    cars = [(10.0, 14.0, 12.0), (11.0, 14.0, 14.0)]
    for rule, bays, moved in (("minimal_move", [4, 0], False), ("earliest_departure", [0, 4], True)):
        lot = HAND.replace(bays=2, dispatch=rule)
        model = Model(lot, one_day(cars, lot))
        scenario = sample(lot, model.law, 1, 1)
        state = model.initial(scenario)
        for capacity in (6.0, 12.0):
            action = model.action_for(np.array([4.0]), int(state.t[0]), np.array([capacity]))
            state, money, _ = model.step(scenario, state, action)
        np.testing.assert_allclose(state.bay_kwh[0, :2], bays, atol=1e-9)
        assert (money[0, M["redistribution"]] < 0) == moved


# What is not to be known


@pytest.mark.parametrize("per_bay", [False, True])
def test_true_departure_is_not_observed_before_its_announcement(per_bay):
    """Two days that differ in one true departure look alike until one step before the earlier one."""
    lot = Instance(bays=4, headroom_low_kwh=6, headroom_high_kwh=6)
    rest = [(7.0, 20.0, 17.0), (9.0, 15.0, 14.0)]
    models = [Model(lot, one_day([*rest, (8.0, leave, 16.0)], lot), per_bay=per_bay) for leave in (12.0, 18.0)]
    scenarios = [sample(lot, model.law, 1, 1) for model in models]
    states = [model.initial(scenario) for model, scenario in zip(models, scenarios, strict=True)]
    rng = np.random.default_rng(0)
    for t in range(6):
        early, late = (m.observe(s, x)[0] for m, s, x in zip(models, scenarios, states, strict=True))
        if t <= 3:
            np.testing.assert_array_equal(early, late)
        elif t == 4:  # the step from 11 to 12 h: announced at its start
            assert (early != late).any()
        action = rng.uniform(-1, 1, (1, models[0].action_size))
        states = [m.step(s, x, action)[0] for m, s, x in zip(models, scenarios, states, strict=True)]


def test_exchange_of_the_next_step_is_fixed_before_its_capacity_is_known():
    lot = Instance(bays=4)
    cars = [(7.0, 20.0, 17.0), (7.0, 19.0, 18.0)]
    models = [Model(lot, one_day([*cars, (9.0, leave, 16.0)], lot)) for leave in (12.0, 18.0)]
    fixed = []
    for model in models:
        scenario = sample(lot, model.law, 1, 1)
        state = model.initial(scenario)
        for _ in range(4):
            state, _, _ = model.step(scenario, state, np.array([[0.7]]))
        fixed.append((state.closed_kwh.tolist(), state.exchange_kw.tolist(), scenario.capacity_kwh[0, 4]))
    assert fixed[0][:2] == fixed[1][:2]
    assert fixed[0][2] != fixed[1][2]


# Merit order


@given(
    change=st.floats(-1e3, 1e3),
    surplus=st.floats(0, 1e3),
    deficit=st.floats(0, 1e3),
    eta=st.floats(0.5, 1.0),
    step_h=st.sampled_from([0.25, 0.5, 1.0, 4.0]),
    buy=st.floats(0.01, 1.0),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    split=st.floats(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_merit_order_delivers_the_change_within_the_offers_at_the_least_cost(
    change, surplus, deficit, eta, step_h, buy, shares, split
):
    taken, returned, bought, sold = merit_order(change, surplus, deficit, eta, step_h)
    assert min(taken, returned, bought, sold) >= 0.0
    assert taken <= surplus
    assert returned <= deficit
    assert (taken + bought == 0.0) or (returned + sold == 0.0)  # one direction
    battery = step_h * (eta * (taken + bought) - (returned + sold) / eta)
    assert battery == pytest.approx(change, rel=1e-12, abs=1e-12)
    assert bought == 0.0 or taken == surplus
    assert sold == 0.0 or returned == deficit
    # no other split of the same power earns more, at any prices an Instance allows
    sell, fee, back = shares[0], shares[0] + (1 - shares[0]) * shares[1], shares[0] + (1 - shares[0]) * shares[2]
    earned = buy * (back * returned + sell * sold - fee * taken - bought)
    power = taken + bought + returned + sold
    if change >= 0:
        community = split * min(power, surplus)
        other = -buy * (fee * community + power - community)
    else:
        community = split * min(power, deficit)
        other = buy * (back * community + sell * (power - community))
    assert earned >= other - 1e-9 * max(power, 1.0)


# Construction


def test_bad_plan_or_law_is_refused():
    for bad in ([0.0] * 12, [0.0] * 12 + [-1.0], [0.0] * 12 + [math.nan], [[0.0] * 13], "plan", [2e7] * 13):
        with pytest.raises(InvalidInputError, match="plan_kwh"):
            Model(Instance(), plan_kwh=bad)
    with pytest.raises(InvalidInputError):
        Model(Instance(), "generator:nowhere")


def test_plan_given_is_copied():
    plan = np.full(13, 5.0)
    model = Model(Instance(), plan_kwh=plan)
    plan[:] = 9.0
    assert (model.plan_kwh == 5.0).all()


@pytest.mark.parametrize("name", LOTS)
@pytest.mark.parametrize("per_bay", [False, True])
def test_observations_stay_within_their_bounds_in_every_lot(name, per_bay):
    lot = LOTS[name]
    if per_bay and lot.bays > 100:
        lot = lot.replace(bays=100)
    model = Model(lot, per_bay=per_bay)
    scenario = sample(lot, model.law, 30, 2)
    high = model.observation_high
    assert high.dtype == np.float32
    for _, state, *_ in drive(model, scenario, 1):
        seen = model.observe(scenario, state)
        assert seen.dtype == np.float32
        assert seen.shape == (30, len(high))
        assert np.isfinite(seen).all()
        assert (seen >= 0.0).all()
        assert (seen <= high).all()


def test_observed_bays_are_the_cars_in_them():
    model = Model(Instance(bays=52), per_bay=True)
    scenario = sample(model.instance, model.law, 5, 3)
    part = model.observation_layout["bays"]
    for t, state, *_ in drive(model, scenario, 1):
        seen = model.observe(scenario, state)[:, part].reshape(5, 52, 6).astype(float)
        for i in range(5):
            want = np.zeros((52, 6))
            for k in range(scenario.sessions[i]):
                if scenario.arrive[i, k] <= t < scenario.depart[i, k]:
                    want[scenario.bay[i, k]] = (
                        1.0,
                        scenario.cap_kwh[i, k] / 10,
                        state.bay_kwh[i, k] / 10,
                        (t - scenario.arrive[i, k]) / 10,
                        max(scenario.stated[i, k] - t, 0) / 10,
                        scenario.depart[i, k] == t + 1,
                    )
            np.testing.assert_allclose(seen[i], want, rtol=1e-6, atol=1e-6)
