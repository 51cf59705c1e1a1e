"""What prosumers earn by storing energy together in the parking lot: a game of profits.

Prosumers S pool their generation, their loads and their shares of the lot's certified storage. Their worth is what they
save against buying every deficit from the retailer and selling every surplus to him, each alone:

    v(S) = netting: (1 - sell fraction) x retail price x energy that members' surpluses and deficits offset
         + storage: optimum of the robust storage program with the pooled offers and (sum of shares) x K, P,

the latter with surplus at what the retailer would pay for it, and deficits at what he charges: the whole gain of
storage, whoever gets it. Contracts between community and manager share it out, which is another question. With the
manager as a player, storage is his: coalitions without him only net.

It is a linear production game (Owen 1975): pooled plans are feasible, so the core is not empty. Values are plans'
money; upper limits come from multipliers (storage.bound).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, near, numbers, whole_number
from baselines.games.coalitions import CooperativeGame, subset_sums
from baselines.games.verify import table_hash
from baselines.parking_lot.prosumers import Prosumers, certain_capacity
from baselines.parking_lot.storage import Market, bound, piece_lengths, plan_money, solve_paths
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.parking_lot.instance import Instance

__all__ = ["FIELDS", "KIND", "PARTS", "ProfitGame", "check_profit_game", "profit_game"]

Floats = NDArray[np.float64]

KIND = "profit game"
FIELDS = {KIND: {"owner", "pv", "load", "storage", "plans_kwh", "multipliers", "upper", "values", "table_sha256"}}
PARTS = {KIND: {"sample": {"law", "seed", "n_samples"}}}
OWNERS = ("prosumers", "manager")
_MOST_PLAYERS = 15
_SLACK = 1e-9


class ProfitGame(NamedTuple):
    """The game, its values what plans earn, and a JSON certificate of all its limits."""

    game: CooperativeGame
    certificate: dict[str, Any]


class _Pools(NamedTuple):
    """All coalitions of prosumers: lot with the joint prices, offers, storage, and what netting alone earns."""

    lot: Instance
    market: Market
    energy_kwh: Floats
    power_kw: Floats
    netting_usd: Floats


def profit_game(
    instance: Instance, crowd: Prosumers, n_samples: int = 2000, seed: int = 1, owner: str = "prosumers"
) -> ProfitGame:
    """The game of a crowd of prosumers.

    Args:
        instance: the lot.
        crowd: their shares.
        n_samples: sampled days; storage is what all of them have.
        seed: of the days.
        owner: "prosumers": everybody brings his share of the storage; "manager": one more player, the last, has all.

    Raises:
        InvalidInputError: for more than 15 players, or an unknown owner.
    """
    number("prosumers", crowd.n, 1, _MOST_PLAYERS - (owner == "manager"), integer=True)
    require(owner in OWNERS, "owner", owner, ", ".join(OWNERS))
    pools = _pools(instance, crowd, n_samples, seed, owner)
    power = pools.power_kw * (1.0 - 1e-14)  # a hair less, so that rounding never asks for more than there is
    paths = solve_paths(pools.lot, pools.market, pools.energy_kwh, power)
    values, upper = _limits(pools, paths.stored_kwh, paths.multiplier)
    game = _game(crowd, owner, values, upper, pools.netting_usd)
    data = {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": KIND,
        "instance_sha256": instance.hash,
        "instance": instance.to_dict(),
        "sample": {"law": "generator", "seed": int(seed), "n_samples": int(n_samples)},
        "owner": owner,
        **{name: pack(getattr(crowd, name)) for name in ("pv", "load", "storage")},
        "plans_kwh": pack(paths.stored_kwh),
        "multipliers": pack(paths.multiplier),
        "upper": pack(game.upper),
        "values": pack(game.values),
        "table_sha256": table_hash(game),
    }
    return ProfitGame(game, data)


def _pools(instance: Instance, crowd: Prosumers, n_samples: int, seed: int, owner: str) -> _Pools:
    energy, power = certain_capacity(instance, n_samples, seed)
    net = subset_sums(crowd.net_kw(instance))
    alone = subset_sums(np.maximum(crowd.net_kw(instance), 0.0))
    surplus = np.maximum(net, 0.0)
    saved = (1.0 - instance.sell_fraction) * instance.step_h * (alone - surplus) @ instance.buy
    share = np.minimum(subset_sums(crowd.storage), 1.0) if owner == "prosumers" else np.ones(len(net))
    lot = instance.replace(fee_fraction=instance.sell_fraction, return_fraction=1.0)
    market = Market(instance.buy, surplus, np.maximum(-net, 0.0))
    return _Pools(lot, market, share[:, None] * energy, share[:, None] * power, saved)


def _limits(pools: _Pools, plans: Floats, multipliers: Floats) -> tuple[Floats, Floats]:
    """What every coalition's plan earns, and a proven upper limit [$]."""
    earned = plan_money(pools.lot, pools.market, plans)
    top = bound(pools.lot, pools.market, pools.energy_kwh, pools.power_kw, multipliers)
    return pools.netting_usd + earned, pools.netting_usd + top


def _game(crowd: Prosumers, owner: str, values: Floats, upper: Floats, netting: Floats) -> CooperativeGame:
    """Worths of the coalitions, with the manager those without him first."""
    names = crowd.names
    upper = np.maximum(upper, values)
    if owner == "manager":
        names = (*names, "manager")
        values, upper = np.concatenate([netting, values]), np.concatenate([netting, upper])
    for table in (values, upper):
        table[0] = 0.0
    return CooperativeGame(values, names, "profit", values, upper)


def check_profit_game(data: Mapping[str, Any], lot: Instance) -> Report:
    """Check one certificate of kind "profit game": plans carried out, limits recomputed from multipliers.

    Args:
        data: the certificate, whose fields have been compared.
        lot: the instance written in it.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    owner, origin = data["owner"], data["sample"]
    expect(owner in OWNERS, "owner", owner, ", ".join(OWNERS))
    expect(origin["law"] == "generator", "sample.law", origin["law"], "generator")
    n = whole_number("number of prosumers", int(data["pv"]["shape"][0]), 1, _MOST_PLAYERS - (owner == "manager"))
    samples = whole_number("sample.n_samples", origin["n_samples"], 1, 10**5)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    try:
        crowd = Prosumers(*(numbers(name, data[name], (n,)) for name in ("pv", "load", "storage")))
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    pools = _pools(lot, crowd, samples, seed, owner)
    shape = pools.energy_kwh.shape
    plans, multipliers = (numbers(name, data[name], shape) for name in ("plans_kwh", "multipliers"))
    _check_plans(pools, plans)
    values, upper = _limits(pools, plans, multipliers)
    true = _game(crowd, owner, values, upper, pools.netting_usd)
    stated = [numbers(name, data[name], (1 << true.n,)) for name in ("values", "upper")]
    for name, table, own in (("values", stated[0], true.values), ("upper", stated[1], true.upper)):
        worst = int(np.abs(table - own).argmax())
        near(f"{name} of coalition {worst}", float(table[worst]), float(own[worst]))
    game = CooperativeGame(stated[0], true.players, "profit", stated[0], stated[1])
    expect(data["table_sha256"] == table_hash(game), "table_sha256", data["table_sha256"], table_hash(game))
    gap = float((game.upper - game.values).max())
    claim = (
        f"profits of all {1 << game.n} coalitions of {game.n} players are known within {gap:.2e} $ a day; all together "
        f"earn {game.total:.4f} $"
    )
    return Report(KIND, (claim,), {"total_usd": game.total, "gap_usd": gap})


def _check_plans(pools: _Pools, plans: Floats) -> None:
    """Stored energy and power of every coalition's plan lie within its storage, and its last step is empty."""
    slack = _SLACK * (1.0 + float(pools.energy_kwh.max()))
    expect(bool((plans >= 0.0).all()), "plans_kwh", float(plans.min()), "not negative")
    expect(bool((plans <= pools.energy_kwh + slack).all()), "plans_kwh", "above the storage", "within it")
    expect(not plans[:, -1].any(), "plans_kwh", float(plans[:, -1].max()), "0 in the last step")
    change = np.diff(plans, axis=1, prepend=0.0)
    lengths = piece_lengths(pools.lot, pools.market, pools.power_kw)
    up, down = lengths[..., :2].sum(axis=-1), lengths[..., 2:].sum(axis=-1)
    ok = (change <= up + slack).all() and (-change <= down + slack).all()
    expect(bool(ok), "plans_kwh", "too fast", "within chargers and grid")
