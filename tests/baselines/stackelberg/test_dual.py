"""Any dual point bounds every choice in any box; flows at it conserve exactly."""

from fractions import Fraction

import numpy as np
import pytest

from baselines.stackelberg.box_kernel import part_of
from baselines.stackelberg.dual import DualBounds
from baselines.stackelberg.exact_flow import conserves, exact_flows
from baselines.stackelberg.program import program_of
from v2g_env.stackelberg.follower import arcs_of, respond


def worth_of_all(lab, game, multiplier):
    """Choices and their objective plus the priced profit, without the rule that the platform must not lose."""
    chosen, _, profit = lab.enumerate_all(game)
    value = lab.evaluate(game, game.levels[chosen])[0]
    return chosen, value + multiplier * profit, np.where(profit >= 0.0, value, -np.inf)


def multiplier_of(game, rng):
    least = max((1.0 - 1.0 / game.kappa) / game.drivers, 0.0) * 1.001 + 1e-3 / game.drivers
    return 0.0 if game.owner == "platform" else float(least * rng.choice([1.0, 10.0, 1e3]))


@pytest.mark.parametrize("seed", range(40))
def test_any_dual_point_bounds_every_choice_in_any_box(lab, seed):
    game = lab.game(seed)
    rng = np.random.default_rng(seed)
    multiplier = multiplier_of(game, rng)
    chosen, value, feasible = worth_of_all(lab, game, multiplier)
    bounds = DualBounds(game, multiplier)
    levels = game.levels * game.step_h
    top = game.choices - 1
    plugs = len(bounds.charged)

    def point():
        rebates = rng.uniform(-0.5, 1.5, plugs) * levels[-1]
        kappa = float(rng.choice([0.0, 10.0 ** rng.uniform(-3, 5)]))
        return (np.full(plugs, levels[0]) if rng.random() < 0.3 else rebates), kappa

    def holds(number):
        for _ in range(number):
            ends = np.sort(np.stack([rng.integers(0, top + 1), rng.integers(0, top + 1)]), axis=0)
            inside = ((chosen >= ends[0]) & (chosen <= ends[1])).all(axis=1)
            best = max(value[inside].max(), feasible.max() if narrowed else -np.inf)
            bound = bounds.bound(*point(), levels[ends[0]], levels[ends[1]])
            # after narrowing the bound holds for choices at least as good as the best
            wanted = value[inside & (feasible >= feasible.max())].max(initial=-np.inf) if narrowed else best
            assert bound >= wanted - 1e-11 * (1.0 + abs(wanted))

    narrowed = False
    holds(2)
    if np.isfinite(feasible.max()):
        start = np.repeat(levels[chosen[feasible.argmax()]][None], plugs, 0)[np.arange(plugs), bounds.period]
        top_bound = bounds.narrow(start, 0.0, levels[0 * top], levels[top], float(feasible.max()))
        assert top_bound >= feasible.max() - 1e-11 * (1.0 + abs(feasible.max()))
        flow = respond(arcs_of(game.classes), levels[chosen[feasible.argmax()]][None]).flow[0]
        assert (bounds.low <= flow + 1e-11).all()
        assert (flow - 1e-11 <= bounds.high).all()
        narrowed = True
        holds(2)


@pytest.mark.parametrize("size", [1.0, 1e2, 1e5, 1e9])
def test_flows_conserve_exactly_at_any_size(lab, size):
    for seed in range(20):
        game = lab.game(seed)
        program = program_of(game)
        rng = np.random.default_rng(seed)
        rebates = rng.uniform(0.0, 3.0, (2, game.periods))
        one, two = respond(arcs_of(game.classes), rebates).flow
        fixed, unit = exact_flows(program, np.stack([one + size * (two - one), one]))
        assert conserves(program, fixed, unit).all()
        flows = fixed * unit[:, None]
        assert np.abs(flows[0] - one - size * (two - one)).max() < 1e-10 * max(size, 1.0)
        assert np.abs(flows[1] - one).max() < 1e-10
        for row in flows:
            balance = [Fraction(0)] * program.nodes
            for a, y in enumerate(row):
                balance[program.tail[a]] -= Fraction(float(y))
                if program.head[a] >= 0:
                    balance[program.head[a]] += Fraction(float(y))
            assert [-b for b in balance] == [Fraction(int(n in program.source)) for n in range(program.nodes)]
        fixed[0, 0] += 1
        assert not conserves(program, fixed, unit)[0]


def test_flows_beyond_all_measure_are_refused(lab):
    game = lab.game(0)
    for huge in (1e13, 1e300, np.inf, np.nan):
        with pytest.raises(ArithmeticError):
            exact_flows(program_of(game), np.full((1, sum(c.network.arcs for c in game.classes)), huge))


@pytest.mark.parametrize("tiny", [0.3, 1e-3, 1e-13, 1e-16, 0.0])
def test_parts_of_a_class_are_positive_and_sum_up_exactly(lab, tiny):
    for seed in range(40):
        program = program_of(lab.game(seed))
        rng = np.random.default_rng(seed)
        flow = rng.choice([tiny, 0.25, 0.5], len(program.tail))
        for t in range(len(program.price)):
            for k in range(len(program.share)):
                arcs = [a for a in program.member[t] if a >= 0 and program.group[a] == k]
                plugged = flow[arcs].sum()
                if len(arcs) > 1 and plugged > 0.0:
                    parts = [part_of(program, t, a, flow, plugged) for a in arcs]
                    assert min(parts) > 0.0
                    assert sum(map(Fraction, parts)) == 1
                    np.testing.assert_allclose(parts, flow[arcs] / plugged, atol=1e-11)
