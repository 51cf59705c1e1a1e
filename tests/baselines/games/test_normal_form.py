"""Tables of payoffs: equilibria of known games, exploitability, and the same game in other tools."""

import numpy as np
import pytest

from baselines.games.normal_form import NormalForm
from v2g_env.core.validate import InvalidInputError

DILEMMA = NormalForm(
    [[[-1.0, -1.0], [-3.0, 0.0]], [[0.0, -3.0], [-2.0, -2.0]]], ["row", "column"], [["keep", "tell"]] * 2
)
PENNIES = NormalForm([[[1.0, -1.0], [-1.0, 1.0]], [[-1.0, 1.0], [1.0, -1.0]]])


def random_game(seed, shape):
    return NormalForm(np.random.default_rng(seed).normal(size=(*shape, len(shape))))


def test_known_games_have_their_equilibria():
    assert DILEMMA.pure_equilibria() == [(1, 1)] and DILEMMA.equilibrium_totals() == (-4.0, -4.0)
    assert DILEMMA.best_total == -2.0
    assert PENNIES.pure_equilibria() == [] and np.isnan(PENNIES.equilibrium_totals()[0])
    np.testing.assert_allclose(PENNIES.gains([[0.5, 0.5], [0.5, 0.5]]), 0.0, atol=1e-15)
    np.testing.assert_allclose(PENNIES.gains([[1.0, 0.0], [0.5, 0.5]]), [0.0, 1.0])


@pytest.mark.parametrize("seed", range(4))
def test_gains_are_those_of_all_single_deviations(seed):
    game, rng = random_game(seed, (2, 3, 4)), np.random.default_rng(seed)
    profile = [rng.dirichlet(np.ones(k)) for k in (2, 3, 4)]
    now = game.expected(profile)
    np.testing.assert_allclose(now, np.einsum("abcn,a,b,c->n", game.payoffs, *profile))
    for i, size in enumerate((2, 3, 4)):
        best = max(game.expected([*profile[:i], np.eye(size)[k], *profile[i + 1 :]])[i] for k in range(size))
        assert game.gains(profile)[i] == pytest.approx(best - now[i])


@pytest.mark.parametrize("seed", range(3))
def test_nobody_gains_at_equilibria_that_nashpy_finds(seed):
    pytest.importorskip("nashpy")
    game = random_game(seed, (3, 3))
    found = list(game.to_nashpy().support_enumeration())
    assert found
    for profile in found:
        np.testing.assert_allclose(game.gains(profile), 0.0, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2)])
def test_open_spiel_pays_the_same(shape):
    pytest.importorskip("pyspiel")
    game = random_game(5, shape)
    spiel = game.to_open_spiel()
    assert spiel.num_players() == len(shape)
    for cell in np.ndindex(*shape):
        state = spiel.new_initial_state()
        state.apply_actions(list(cell))
        np.testing.assert_allclose(state.returns(), game.payoffs[cell])


def read_nfg(text):
    """Payoffs of a payoff-form .nfg file, by the format's description."""
    head, body = text.split('""\n')
    sizes = [part.count('" "') + 1 for part in head.split("{")[3:]]
    values = np.array(body.split(), float).reshape(-1, len(sizes))
    table = np.empty((*sizes, len(sizes)))
    for k in range(len(values)):
        cell, rest = [], k
        for size in sizes:
            cell.append(rest % size)
            rest //= size
        table[tuple(cell)] = values[k]
    return table


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2, 4)])
def test_the_gambit_file_holds_the_same_payoffs(tmp_path, shape):
    game = random_game(6, shape)
    game.to_nfg(tmp_path / "game.nfg")
    text = (tmp_path / "game.nfg").read_text()
    assert text.startswith("NFG 1 R ")
    np.testing.assert_array_equal(read_nfg(text), game.payoffs)


def test_gambit_itself_reads_the_file(tmp_path):
    gambit = pytest.importorskip("pygambit")
    game = random_game(7, (2, 3, 2))
    game.to_nfg(tmp_path / "game.nfg")
    read = gambit.read_nfg(str(tmp_path / "game.nfg"))
    for cell in np.ndindex(2, 3, 2):
        outcome = read[tuple(cell)]
        for i, player in enumerate(read.players):
            assert float(outcome[player]) == pytest.approx(game.payoffs[cell][i])


def test_the_frame_is_tidy():
    frame = DILEMMA.to_frame()
    assert list(frame.columns) == ["row", "column", "player", "payoff"] and len(frame) == 8
    told = frame[(frame["row"] == "tell") & (frame["column"] == "keep") & (frame["player"] == "row")]
    assert told["payoff"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: NormalForm(np.zeros((2, 2))), "shape of payoffs"),
        (lambda: NormalForm(np.full((2, 2, 2), np.nan)), "payoffs"),
        (lambda: NormalForm(np.zeros((2, 2, 2)), ["a", "a"]), "players"),
        (lambda: NormalForm(np.zeros((2, 2, 2)), None, [["a", "b"], ["c"]]), "strategies"),
        (lambda: PENNIES.gains([[0.5, 0.5]]), "profile"),
        (lambda: PENNIES.gains([[0.5, 0.4], [1, 0]]), "sum of"),
        (lambda: PENNIES.gains([[1.5, -0.5], [1, 0]]), "strategy of"),
        (lambda: random_game(0, (2, 2, 2)).to_nashpy(), "players"),
        (lambda: NormalForm(np.zeros((2, 2, 2)), ["player", "b"]).to_frame(), "players"),
    ],
)
def test_wrong_input_is_named(make, field):
    with pytest.raises(InvalidInputError, match=field):
        make()
