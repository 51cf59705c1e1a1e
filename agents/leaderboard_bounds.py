"""The upper side of the leaderboard: official bounds path by path from their certificates, and submitted penalties.

A penalty has conditional mean zero for every policy, and its data (a frozen function of the state, say) are fixed
before the set was drawn. The mean over scenarios of max (return - penalty) then bounds every policy's mean return
(Brown, Smith and Sun, "Information relaxations and duality in stochastic dynamic programs", Operations Research 58,
2010). ADAPTERS is the one place where an environment says how it reads such data; bound_kinds says how a board's own
bound and its penalty follow from its certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.boards import Board, board_of, module_of, world_of
from agents.bound_kinds import KINDS, OFFICIAL, Drawn, Penalty
from agents.leaderboard_sets import BETA, BoardSet, Scene
from baselines.certificate import check, unpack
from baselines.checking import expect, near
from v2g_env.core.validate import require

__all__ = ["ADAPTERS", "Adapter", "Proven", "certified_bound", "official_board"]

Floats = NDArray[np.float64]
Data = Mapping[str, Any]

# (model, scenario, data, seed of the scenario) -> (m,) per-path bound [$], without a solver: the check calls it too;
# raises InvalidInputError or CertificateError for data that it cannot read
Adapter = Callable[[Any, Any, Data, int], Floats]

_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|
_SECONDS = 1.0  # to solve a day of the Stackelberg game


class Proven(NamedTuple):
    """An official bound that was checked: what holds, and the penalty that belongs to it, None if it has none."""

    claim: str
    penalty: Penalty | None


def official_board(chosen: BoardSet, say: Callable[[str], None] = lambda text: None) -> Board:
    """The board of a set, with the certificate of its bound.

    Args:
        chosen: the set.
        say: receives a line per stage.
    """
    if chosen.env_id != "V2G/Stackelberg-v0":
        return board_of(chosen.env_id, {}, chosen.law, chosen.periods, chosen.seed, BETA, say=say)
    # the board of an evaluation certifies few days only: writing certificates takes as long as solving them
    from baselines.stackelberg.online import OnlineSolver
    from baselines.stackelberg.verify_online import bound_certificate

    model, _ = world_of(chosen.env_id, {}, chosen.law, 1, chosen.seed)
    solver = OnlineSolver(model.instance, time_limit_s=_SECONDS)
    board: Board = module_of(chosen.env_id).board(
        chosen.env_id, {}, chosen.law, chosen.periods, chosen.seed, BETA, solver=solver, say=say
    )
    months = len(board.test.scenario[0])
    made = board.bound or bound_certificate(solver, chosen.seed, months, say)
    drawn = Drawn(board.test.model, board.test.scenario, chosen.seed)
    return replace(board, test=replace(board.test, bound=KINDS["online bound"].paths(drawn, made)), bound=made)


def certified_bound(chosen: BoardSet, scene: Scene, bound_usd: Floats, certificate: Data | None) -> Proven:
    """Check the official bound of every path against its certificate.

    Args:
        chosen: the set.
        scene: its model and scenarios.
        bound_usd: (m,) bound of every period.
        certificate: of the bound.

    Raises:
        CertificateError: for a certificate that is missing, does not hold, or is about something else, or another
            bound.
    """
    label = f"{chosen.env_id}: {chosen.periods} {scene.per}s of {chosen.law}, seed {chosen.seed}"
    expect(certificate is not None, f"bound of {chosen.env_id}", None, "its certificate")
    assert certificate is not None
    kinds = OFFICIAL[chosen.env_id]
    kind = certificate.get("kind")
    expect(isinstance(kind, str) and kind in kinds, "kind of the bound", kind, " or ".join(kinds))
    model = scene.model(None)
    paths = _paths(Drawn(model, scene.scenario, chosen.seed), scene.instance, certificate)
    expect(paths.shape == bound_usd.shape, "periods of the bound", bound_usd.shape, paths.shape)
    worst = int(np.abs(bound_usd - paths).argmax())
    near(f"bound of scenario {worst}", float(bound_usd[worst]), float(paths[worst]), _MONEY)
    found = KINDS[str(kind)].penalty
    scope = "in expectation" if certificate.get("sample") is None else "on average over them"
    less = "" if found is None else ", less a penalty of mean zero"
    claim = f"{label}: no policy earns more than {bound_usd.mean():.4f} $ {scope}{less}; every bound recomputed"
    return Proven(claim, None if found is None else found(Drawn(model, scene.scenario, chosen.seed), certificate))


def _paths(drawn: Drawn, instance: Any, certificate: Data) -> Floats:
    """Bound of every period after the certificate has been checked and found to speak of these episodes."""
    check(certificate, instance)
    about = certificate.get("sample")
    if about is not None:
        for field, wanted in (("seed", drawn.seed), ("n_samples", len(drawn.scenario[0]))):
            expect(about[field] == wanted, f"sample.{field} of the bound", about[field], wanted)
        if "law" in about:
            own = drawn.model.law.name
            expect(about["law"] == own, "sample.law of the bound", about["law"], own)
    return KINDS[certificate["kind"]].paths(drawn, certificate)


def _certificate(kind: str) -> Adapter:
    """Data: a certificate of this kind, about the set's own scenarios."""

    def read(model: Any, scenario: Any, data: Data, seed: int) -> Floats:
        expect(data.get("kind") == kind, "kind of the penalty", data.get("kind"), kind)
        return _paths(Drawn(model, scenario, seed), model.instance, data)

    return read


def _chain_penalty(model: Any, scenario: Any, data: Data, seed: int) -> Floats:
    """Data: critic, packed (T, L, Q, E, 2) values at the start of every step [$], and its scale in [0, 1]."""
    from baselines.price_chain.penalty import penalised

    require(set(data) == {"critic", "scale"}, "fields of the penalty", sorted(data), "critic, scale")
    return penalised(model, scenario, unpack(data["critic"]), data["scale"]).bound_usd


def _lot_penalty(model: Any, scenario: Any, data: Data, seed: int) -> Floats:
    """Data: as baselines.parking_lot.penalty.Penalty.to_dict gives them."""
    from baselines.parking_lot.penalty import Penalty, days_for, penalised

    penalty = Penalty.from_dict(data)
    days = days_for(model, len(scenario.day), seed, penalty)
    same = np.array_equal(days.scenario.day, scenario.day) and np.array_equal(days.scenario.arrive, scenario.arrive)
    require(same, "days of the penalty", "others", "those of the set")
    return penalised(model, days, penalty).bound_usd


ADAPTERS: dict[str, Adapter] = {
    "V2G/PriceChain-v0": _chain_penalty,
    "V2G/ParkingLot-v0": _lot_penalty,
    "V2G/SharedBatteryAllocation-v0": _certificate("week penalised bound"),
    "V2G/Scheduling-v0": _certificate("penalised days bound"),
    "V2G/Stackelberg-v0": _certificate("online bound"),
}
