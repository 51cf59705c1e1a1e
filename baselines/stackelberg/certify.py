"""Turn the result of a search into a certificate: plain data whose every claim a stranger can recompute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from baselines.certificate import FORMAT, pack
from baselines.stackelberg.enclosure import worth
from baselines.stackelberg.program import gap_scale, program_of
from baselines.stackelberg.search import SearchResult
from baselines.stackelberg.tree import Tree, tree_bound
from v2g_env.core.validate import require
from v2g_env.stackelberg.game import Game

__all__ = ["certify", "digest"]


def digest(certificate: Mapping[str, Any]) -> str:
    """SHA-256 over the certificate's other fields: a damaged file is told at once from one that claims too much."""
    content = {key: value for key, value in certificate.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def certify(
    game: Game, result: SearchResult, multiplier: float, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The certificate of a search; its bound is the rigorous one, computed here.

    Raises:
        InvalidInputError: for a search without an incumbent.
        ArithmeticError: if the response to the incumbent cannot be enclosed.
    """
    require(result.levels is not None, "levels", None, "a search that found an answer")
    assert result.levels is not None
    nodes = result.nodes
    tree = Tree(
        np.array([node.parent for node in nodes], np.int32),
        np.array([node.upper for node in nodes], bool),
        np.array([node.period for node in nodes], np.int32),
        np.array([node.level for node in nodes], np.int32),
        np.array([node.kappa for node in nodes]),
        np.array([node.rebates for node in nodes]),
    )
    found = worth(game, program_of(game, multiplier), game.levels[result.levels] * game.step_h)
    value = 0.5 * (found.objective[0] + found.objective[1])
    leaves = [node.bound for node in nodes if node.period < 0]
    target = max(leaves) + 1e-10 * (1.0 + abs(value))
    bound = tree_bound(game, multiplier, found.objective[0], tree, target, progress)
    scale = gap_scale(game, value, found.income[0])
    certificate: dict[str, Any] = {
        "format": FORMAT,
        "problem": "stackelberg",
        "kind": "optimal rebates",
        "instance": game.to_dict(),
        "instance_sha256": game.hash,
        "levels": [int(k) for k in result.levels],
        "value_usd": value,
        "bound_usd": bound,
        "gap": max(bound - value, 0.0) / scale,
        "multiplier": multiplier,
        "tree": {
            name: pack(getattr(tree, name)) for name in ("parent", "upper", "period", "level", "kappa", "rebates")
        },
    }
    certificate["digest"] = digest(certificate)
    return certificate
