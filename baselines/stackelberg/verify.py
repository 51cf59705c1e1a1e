"""Check certificates of the Stackelberg game: rebates whose value is enclosed, and a tree that bounds all others."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import CertificateError, Report, unpack
from baselines.checking import expect
from baselines.stackelberg.certify import digest
from baselines.stackelberg.enclosure import worth
from baselines.stackelberg.program import gap_scale, program_of
from baselines.stackelberg.tree import Tree, tree_bound
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance

__all__ = ["OPTIMUM_FIELDS", "verify", "verify_optimum"]

Data = Mapping[str, Any]
_KEYS = {"format", "problem", "kind", "instance", "instance_sha256", "digest"}
OPTIMUM_FIELDS = {"levels", "value_usd", "bound_usd", "gap", "multiplier", "tree"}
_COLUMNS = {"parent": "<i4", "upper": "|b1", "period": "<i4", "level": "<i4", "kappa": "<f8", "rebates": "<f8"}
_CLOSE = 1e-9  # of the objective: value and bound must be the recomputed ones up to this


def verify(certificate: Data, instance: Game | Instance | None = None) -> Report:
    """Recompute a certificate; see ``baselines.certificate.check``."""
    kind = certificate["kind"]
    if kind == "policy":
        return importlib.import_module("baselines.stackelberg.verify_policy").verify_policy(certificate, instance)  # type: ignore[no-any-return]
    if kind == "online bound":
        return importlib.import_module("baselines.stackelberg.verify_online").verify_online(certificate, instance)  # type: ignore[no-any-return]
    expect(kind == "optimal rebates", "kind", kind, "online bound, optimal rebates, policy")
    expect(
        set(certificate) == _KEYS | OPTIMUM_FIELDS,
        "fields",
        sorted(map(str, certificate)),
        sorted(_KEYS | OPTIMUM_FIELDS),
    )
    expect(certificate["digest"] == digest(certificate), "digest", certificate["digest"], "that of the content")
    try:
        game = Game.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance: {error}") from None
    expect(certificate["instance_sha256"] == game.hash, "instance_sha256", certificate["instance_sha256"], game.hash)
    if instance is not None:
        wanted = instance.game() if isinstance(instance, Instance) else instance
        expect(isinstance(wanted, Game), "instance", type(instance).__name__, "a Game or an Instance")
        expect(game.hash == wanted.hash, "instance_sha256", game.hash, f"{wanted.hash} (the given instance)")
    try:
        return verify_optimum(certificate, game)
    except ArithmeticError as error:
        raise CertificateError(str(error)) from None


def verify_optimum(data: Data, game: Game) -> Report:
    """Check levels, value, bound and tree (``OPTIMUM_FIELDS``) of one game.

    Raises:
        CertificateError: if anything does not hold.
        ArithmeticError: if the drivers' response to the levels cannot be enclosed.
    """
    levels = data["levels"]
    ok = isinstance(levels, list) and len(levels) == game.periods and all(type(k) is int for k in levels)
    expect(ok and all(0 <= k < n for k, n in zip(levels, game.choices, strict=True)), "levels", levels, "allowed ones")
    multiplier = _number("multiplier", data["multiplier"])
    community = game.owner == "drivers"
    expect(multiplier >= 0.0 and (community or multiplier == 0.0), "multiplier", multiplier, "0, or more for drivers")
    program = program_of(game, multiplier)
    expect(program.net > 0.0, "multiplier", multiplier, "large enough that rebates cost the owner something")
    found = worth(game, program, game.levels[np.array(levels)] * game.step_h)
    if community:
        expect(found.profit[0] >= -_CLOSE * program.drivers, "profit of the platform", found.profit[0], "at least 0")
    low, high = found.objective
    value = _number("value_usd", data["value_usd"])
    size = 1.0 + abs(value)
    expect(low - _CLOSE * size <= value <= high + _CLOSE * size, "value_usd", value, f"{low!r} to {high!r}")
    claimed = _number("bound_usd", data["bound_usd"])
    tree = _tree(data["tree"], len(np.flatnonzero(program.period >= 0)))
    proven = tree_bound(game, multiplier, low, tree, claimed + _CLOSE * size)
    close = abs(proven - claimed) <= _CLOSE * size
    expect(close, "bound_usd", claimed, f"{proven!r} (what the tree proves)")
    scale = gap_scale(game, value, found.income[0])
    gap = _number("gap", data["gap"])
    true = max(claimed - value, 0.0) / scale
    expect(abs(gap - true) <= 1e-9 * (1.0 + true), "gap", gap, f"{true!r}")
    unit = "$ for the platform" if not community else "$ per driver"
    leaves = int((tree.period < 0).sum())
    claims = (
        f"the rebates are worth {value:.6f} {unit}; the drivers' response to them is enclosed",
        f"no choice of levels is worth more than {claimed:.6f}: {leaves} boxes cover all of them, gap {true:.1e}",
    )
    values = {
        "value_usd": value,
        "bound_usd": claimed,
        "gap": true,
        "profit_usd": found.profit[0],
        "leaves": float(leaves),
    }
    return Report("optimal rebates", claims, values)


def _tree(data: Data, charged: int) -> Tree:
    expect(isinstance(data, Mapping) and set(data) == set(_COLUMNS), "tree", type(data).__name__, sorted(_COLUMNS))
    columns: dict[str, NDArray[Any]] = {}
    for name, dtype in _COLUMNS.items():
        columns[name] = unpack(data[name])
        expect(columns[name].dtype.str == dtype, f"dtype of tree.{name}", columns[name].dtype.str, dtype)
    count = len(columns["parent"])
    expect(count > 0, "nodes of the tree", count, "at least the root")
    for name, column in columns.items():
        shape = (count, charged) if name == "rebates" else (count,)
        expect(column.shape == shape, f"shape of tree.{name}", column.shape, str(shape))
    expect(
        bool((columns["kappa"] >= 0.0).all() and np.isfinite(columns["kappa"]).all()), "tree.kappa", "?", "0 or more"
    )
    expect(bool(np.isfinite(columns["rebates"]).all()), "tree.rebates", "not finite", "finite numbers")
    leaf = columns["period"] < 0
    clean = bool((columns["period"][leaf] == -1).all() and (columns["level"][leaf] == -1).all())
    expect(clean, "period and level of a leaf", "?", "-1")
    return Tree(**columns)


def _number(name: str, value: Any) -> float:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
    expect(ok, name, value, "a finite number")
    return float(value)
