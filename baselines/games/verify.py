"""Certificates of allocations and of empty cores: the table of a game, a claim, and what proves it.

The check recomputes everything from the table in the certificate, without a solver; weights are rational numbers and
compared exactly. Where the table itself comes from is another certificate's business: the hash names it.

Kinds: "allocation" says what players get under a rule, whether it is in the core, and who would rather leave;
"empty core" has balanced weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, near, numbers
from baselines.games.coalitions import MOST_PLAYERS, CooperativeGame
from baselines.games.core import Balanced, LeastCore, excesses, leaving, stable
from baselines.games.nucleolus import Nucleolus, grouped
from baselines.games.rational import from_text, rank, to_text
from baselines.games.shapley import shapley
from baselines.games.verify_sampled import check_sampled
from v2g_env.core.validate import InvalidInputError

__all__ = ["allocation_certificate", "empty_core_certificate", "table_hash", "verify"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

_HEAD = {"format", "problem", "kind", "players", "game_kind", "values", "lower", "upper", "table_sha256"}
_FIELDS = {
    "allocation": _HEAD | {"rule", "payments", "verdict", "worst_gain_usd", "leaving", "proof"},
    "empty core": _HEAD | {"masks", "weights", "surplus_usd"},
}
_RULES = ("least core", "nucleolus", "prenucleolus", "Shapley")  # rules whose name claims something
_SHOWN = 20  # coalitions that would leave, listed


def table_hash(game: CooperativeGame) -> str:
    """SHA-256 over players, kind and all three tables."""
    digest = hashlib.sha256("\n".join([game.kind, *game.players]).encode())
    for table in (game.values, game.lower, game.upper):
        digest.update(np.ascontiguousarray(table, "<f8").tobytes())
    return digest.hexdigest()


def allocation_certificate(
    game: CooperativeGame, payments: Floats, rule: str, proof: Nucleolus | LeastCore | None = None
) -> dict[str, Any]:
    """JSON certificate of an allocation.

    Args:
        game: whose table it holds.
        payments: (n,) [$].
        rule: for people; "Shapley", "nucleolus", "prenucleolus" and "least core" are checked to be that.
        proof: what the solution came with, for the last three.

    Raises:
        InvalidInputError: for payments that do not add up.
    """
    paid = game.allocation(payments)
    found = stable(game, paid)
    return _head(game, "allocation") | {
        "rule": rule,
        "payments": pack(paid),
        "verdict": found.word,
        "worst_gain_usd": float(excesses(game, paid).max()),
        "leaving": [[each.coalition, each.gain_usd] for each in leaving(game, paid)[:_SHOWN]],
        "proof": _proof(game, proof),
    }


def empty_core_certificate(game: CooperativeGame, weights: Balanced) -> dict[str, Any]:
    """JSON certificate that no allocation of what all are worth is in the core of the game's values."""
    return _head(game, "empty core") | {
        "masks": [int(mask) for mask in weights.masks],
        "weights": [to_text(weight) for weight in weights.weights],
        "surplus_usd": float(weights.surplus),
    }


def verify(certificate: Data, instance: Any = None) -> Report:
    """Check one certificate of this problem.

    Args:
        certificate: as loaded from JSON.
        instance: the CooperativeGame it must belong to; None takes the table in it.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    kind = certificate["kind"]
    if kind == "sampled core":
        expect(instance is None, "instance", "given", "none for a sampled core: its tables are in it")
        return check_sampled(certificate)
    expect(isinstance(kind, str) and kind in _FIELDS, "kind", kind, ", ".join([*_FIELDS, "sampled core"]))
    expect(set(certificate) == _FIELDS[kind], "fields", sorted(certificate), ", ".join(sorted(_FIELDS[kind])))
    game = _game(certificate)
    if instance is not None:
        expect(isinstance(instance, CooperativeGame), "instance", type(instance).__name__, "a CooperativeGame")
        expect(table_hash(instance) == table_hash(game), "instance", "another game", "the certificate's")
    return _CHECKS[kind](certificate, game)


def _head(game: CooperativeGame, kind: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "problem": "games",
        "kind": kind,
        "players": list(game.players),
        "game_kind": game.kind,
        "values": pack(game.values),
        "lower": pack(game.lower),
        "upper": pack(game.upper),
        "table_sha256": table_hash(game),
    }


def _game(data: Data) -> CooperativeGame:
    players = data["players"]
    ok = isinstance(players, list) and 1 <= len(players) <= MOST_PLAYERS
    expect(ok, "players", players, f"1 to {MOST_PLAYERS} names")
    shape = (1 << len(players),)
    tables = [numbers(name, data[name], shape) for name in ("values", "lower", "upper")]
    try:
        game = CooperativeGame(tables[0], players, data["game_kind"], tables[1], tables[2])
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    expect(data["table_sha256"] == table_hash(game), "table_sha256", data["table_sha256"], table_hash(game))
    return game


def _proof(game: CooperativeGame, proof: Nucleolus | LeastCore | None) -> Any:
    if proof is None:
        return None
    if isinstance(proof, LeastCore):
        return {"masks": [int(mask) for mask in proof.masks], "weights": [float(w) for w in proof.weights]}
    return {
        "exact": [to_text(part) for part in proof.exact],
        "levels": [
            {
                "masks": [int(mask) for mask in level.masks],
                "weights": [to_text(weight) for weight in level.weights],
                "alone": [[int(i), to_text(weight)] for i, weight in level.alone.items()],
            }
            for level in proof.levels
        ],
    }


def _check_allocation(data: Data, game: CooperativeGame) -> Report:
    paid = numbers("payments", data["payments"], (game.n,))
    try:
        paid = game.allocation(paid)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    rule = data["rule"]
    expect(isinstance(rule, str) and 0 < len(rule) <= 200, "rule", rule, "a name")
    gain = excesses(game, paid)
    near("worst_gain_usd", data["worst_gain_usd"], float(gain.max()))
    found = stable(game, paid)
    expect(data["verdict"] == found.word, "verdict", data["verdict"], found.word)
    gone = leaving(game, paid)
    stated = data["leaving"]
    expect(
        isinstance(stated, list) and len(stated) == min(len(gone), _SHOWN), "leaving", stated, f"{len(gone)} of them"
    )
    for entry, each in zip(stated, gone, strict=False):
        expect(isinstance(entry, list) and len(entry) == 2, "leaving", entry, "coalition and gain")
        mask = entry[0]
        expect(type(mask) is int and 0 < mask < len(gain), "leaving", mask, "a coalition")
        near(f"gain of coalition {mask}", entry[1], float(gain[mask]))
        near(f"gain of the next coalition {mask}", entry[1], each.gain_usd)
    claims = [f"{rule}: the payments share out {game.total:.6g} $ among {game.n} players"]
    claims += _special(rule, data["proof"], game, paid)
    claims.append(_verdict(found.word, game, len(gone), float(gain.max())))
    return Report("allocation", tuple(claims), {"worst_gain_usd": float(gain.max()), "leaving": float(len(gone))})


def _verdict(word: str, game: CooperativeGame, count: int, worst: float) -> str:
    known = "" if game.exact else " for every game between the proven limits"
    if word == "stable":
        return f"it is in the core{known}: no coalition gains by leaving"
    if word == "unstable":
        return f"it is not in the core{known}: {count} coalitions gain by leaving, up to {worst:.6g} $"
    return (
        f"the limits of what coalitions are worth do not decide whether it is in the core; {count} gain by the values"
    )


def _special(rule: str, proof: Any, game: CooperativeGame, paid: Floats) -> list[str]:
    """What the rule's name claims."""
    if rule not in _RULES:
        return []
    if rule == "Shapley":
        own = shapley(game)
        at = int(np.abs(own - paid).argmax())
        near(f"payment of {game.players[at]}", float(paid[at]), float(own[at]))
        return ["they are the Shapley value of the table, recomputed"]
    expect(isinstance(proof, Mapping), "proof", proof, "what the rule came with")
    if rule == "least core":
        return [_check_least(proof, game, paid)]
    return [_check_nucleolus(rule, proof, game, paid)]


def _check_least(proof: Data, game: CooperativeGame, paid: Floats) -> str:
    """Weights that put the same mean excess under every allocation: no largest excess can be below it."""
    expect(set(proof) == {"masks", "weights"}, "proof", sorted(proof), "masks, weights")
    masks, weights = _masks(proof["masks"], game), np.array(proof["weights"], np.float64)
    expect(weights.shape == (len(masks),) and bool((weights >= 0.0).all()), "weights", proof["weights"], "not negative")
    expect(abs(weights.sum() - 1.0) <= 1e-7, "sum of weights", float(weights.sum()), 1)
    inside = np.array([[mask >> i & 1 for i in range(game.n)] for mask in masks], np.float64)
    load = weights @ inside
    spread = float(np.ptp(load))
    expect(spread <= 1e-7, "weights of the players", load.tolist(), "the same for all")
    bound = float(weights @ (game.gains[masks] - inside @ (game.sign * paid)))
    proper = excesses(game, paid)[1:-1].max()
    size = 1.0 + float(np.abs(game.values).max())
    expect(proper - bound <= 1e-6 * size, "largest excess", float(proper), f"{bound!r}, as the weights prove")
    return f"no allocation has a largest excess below {bound:.6g} $ (weights); theirs is {proper:.6g} $"


def _check_nucleolus(rule: str, proof: Data, game: CooperativeGame, paid: Floats) -> str:
    """Kohlberg's criterion, in rationals."""
    expect(set(proof) == {"exact", "levels"}, "proof", sorted(proof), "exact, levels")
    expect(isinstance(proof["exact"], list) and len(proof["exact"]) == game.n, "exact", proof["exact"], "n numbers")
    sign, n = Fraction(int(game.sign)), game.n
    shares = [sign * from_text("exact", text) for text in proof["exact"]]
    for i, share in enumerate(shares):
        near(f"payment of {game.players[i]}", float(paid[i]), float(sign * share))
    expect(sum(shares) == Fraction(float(game.gains[-1])), "sum of exact payments", float(sum(shares)), game.total)
    groups, alone, moved = grouped(game, tuple(shares))
    size = 1.0 + float(np.abs(game.values).max())
    expect(
        moved <= Fraction(1e-7 * size), "difference of excesses of one level", float(moved), f"at most {1e-7 * size:g}"
    )
    if rule == "nucleolus":
        lack = [float(Fraction(float(game.gains[1 << i])) - shares[i]) for i in range(n)]
        expect(max(lack) <= 1e-9 * size, "excess of a player alone", max(lack), "not positive")
    if n == 1:
        return f"they are the {rule}: there is one player"
    levels = proof["levels"]
    ok = isinstance(levels, list) and 1 <= len(levels) <= len(groups)
    expect(ok, "levels", levels, f"1 to {len(groups)} of them")
    masks: list[int] = []
    for level, group in zip(levels, groups, strict=False):
        masks = [*masks, *group]
        _check_level(level, masks, alone if rule == "nucleolus" else [], n)
    expect(
        rank([[mask >> i & 1 for i in range(n)] for mask in masks]) == n, "last level", masks, "decides the payments"
    )
    whose = "" if moved == 0 else f", of a table that differs by at most {float(moved):.1e} $"
    return (
        f"they are the {rule}{whose}: on each of {len(levels)} levels of excess the coalitions are balanced, in exact "
        "rationals (Kohlberg's criterion)"
    )


def _check_level(level: Data, masks: list[int], alone: list[int], n: int) -> None:
    expect(set(level) == {"masks", "weights", "alone"}, "level", sorted(level), "masks, weights, alone")
    listed, texts, helped = level["masks"], level["weights"], level["alone"]
    same = isinstance(listed, list) and isinstance(texts, list) and len(listed) == len(texts)
    expect(
        same and sorted(listed) == sorted(masks), "masks of a level", listed, "all coalitions with that excess or more"
    )
    weights = [from_text("weights", text) for text in texts]
    expect(all(weight > 0 for weight in weights), "weights of a level", texts, "positive")
    own = {i: from_text("alone", text) for i, text in helped}
    ok = set(own) <= set(alone) and len(own) == len(helped) and all(weight >= 0 for weight in own.values())
    expect(ok, "alone", helped, "players who get what they are worth alone, weights not negative")
    for i in range(n):
        total = sum((w for mask, w in zip(listed, weights, strict=True) if mask >> i & 1), own.get(i, Fraction(0)))
        expect(total == 1, f"weights of the coalitions of player {i}", float(total), "1")


def _masks(given: Any, game: CooperativeGame) -> list[int]:
    full = (1 << game.n) - 1
    ok = isinstance(given, list) and all(type(mask) is int and 0 < mask < full for mask in given)
    expect(ok and len(set(given)) == len(given), "masks", given, "proper coalitions, each once")
    return list(given)


def _check_empty(data: Data, game: CooperativeGame) -> Report:
    masks, texts = _masks(data["masks"], game), data["weights"]
    expect(isinstance(texts, list) and len(texts) == len(masks), "weights", texts, "one for each coalition")
    weights = [from_text("weights", text) for text in texts]
    expect(all(weight > 0 for weight in weights), "weights", texts, "positive")
    for i in range(game.n):
        total = sum((w for mask, w in zip(masks, weights, strict=True) if mask >> i & 1), Fraction(0))
        expect(total == 1, f"weights of the coalitions of {game.players[i]}", float(total), "1")
    surplus = sum((w * Fraction(float(game.gains[mask])) for mask, w in zip(masks, weights, strict=True)), Fraction(0))
    surplus -= Fraction(float(game.gains[-1]))
    expect(surplus > 0, "surplus_usd", float(surplus), "more than 0")
    near("surplus_usd", data["surplus_usd"], float(surplus))
    claim = (
        f"the core is empty: balanced weights on {len(masks)} coalitions are worth {float(surplus):.6g} $ more than "
        "all players together (Bondareva and Shapley), in exact rationals"
    )
    return Report("empty core", (claim,), {"surplus_usd": float(surplus)})


_CHECKS: dict[str, Callable[[Data, CooperativeGame], Report]] = {
    "allocation": _check_allocation,
    "empty core": _check_empty,
}
