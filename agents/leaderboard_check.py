"""The check of a leaderboard: everything recomputed from recorded actions, certificates and data; no solver runs.

What a check cannot see: whether a bundle or function really takes the recorded actions, the time of a decision, what
was promised beforehand, and looks that left no trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.leaderboard_bounds import ADAPTERS, Adapter, Proven, certified_bound
from agents.leaderboard_looks import Looks, look_share
from agents.leaderboard_rows import (
    FORMAT,
    KINDS,
    PENALTY_FIELDS,
    ROW_FIELDS,
    SET_FIELDS,
    penalty_figures,
    policy_figures,
)
from agents.leaderboard_sets import BETA, BOARD_SETS, BoardSet, Scene, scene_of
from agents.leaderboard_submissions import data_hash
from baselines.certificate import CertificateError, Report, load
from baselines.checking import expect, near, numbers
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Episodes, Recorded, rollout

__all__ = ["check_leaderboard", "read_leaderboard"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|: sums may be made in another order
_MOST_ROWS = 10**4
_LONGEST_NAME = 200


def read_leaderboard(path: str | Path, looks: Looks, sets: tuple[BoardSet, ...] = BOARD_SETS) -> dict[str, Any]:
    """Read leaderboard.json and compare its words: fields, sets, looks and shares of beta, but no number yet.

    Args:
        path: the file.
        looks: beside it.
        sets: the scenario sets that it may speak of.

    Raises:
        CertificateError: with the reason, for anything else.
    """
    content = load(path)
    _check_words(content, looks, sets)
    return content


def check_leaderboard(
    source: str | Path | Data,
    looks: Looks | None = None,
    sets: tuple[BoardSet, ...] = BOARD_SETS,
    adapters: Mapping[str, Adapter] = ADAPTERS,
) -> Report:
    """Recompute a whole leaderboard.

    Args:
        source: folder of the leaderboard, or the content of leaderboard.json.
        looks: of the leaderboard; None: read from the folder, none for plain content.
        sets: the scenario sets that it may speak of.
        adapters: how penalties are read, by environment.

    Returns:
        What holds, and how many rows and penalties were recomputed.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    if isinstance(source, Mapping):
        content, known = source, looks or Looks()
    else:
        known = Looks.read(source) if looks is None else looks
        content = load(Path(source) / "leaderboard.json")
    try:
        with np.errstate(all="ignore"):
            _check_words(content, known, sets)
            claims = [claim for each in content["sets"] for claim in _check_set(each, sets, adapters)]
    except CertificateError:
        raise
    except (InvalidInputError, AttributeError, TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise CertificateError(f"leaderboard = malformed: {error}") from None
    rows = sum(len(each["rows"]) for each in content["sets"])
    penalties = sum(len(each["penalties"]) for each in content["sets"])
    return Report("leaderboard", tuple(claims), {"rows": float(rows), "penalties": float(penalties)})


def _fields(what: str, given: Any, wanted: set[str]) -> None:
    ok = isinstance(given, Mapping) and set(given) == wanted
    expect(ok, f"fields of {what}", sorted(given) if isinstance(given, Mapping) else given, ", ".join(sorted(wanted)))


def _check_words(content: Any, looks: Looks, sets: tuple[BoardSet, ...]) -> None:
    _fields("the leaderboard", content, {"format", "sets"})
    expect(content["format"] == FORMAT, "format", content["format"], FORMAT)
    expect(isinstance(content["sets"], list), "sets", content["sets"], "a list")
    known = {each.env_id: each for each in sets}
    for each in content["sets"]:
        _fields("a set", each, SET_FIELDS)
        chosen = known.pop(each["env_id"], None) if isinstance(each["env_id"], str) else None
        expect(chosen is not None, "env_id", each["env_id"], "an environment with a scenario set, each once")
        assert chosen is not None
        for field in ("law", "periods", "seed"):
            value, wanted = each[field], getattr(chosen, field)
            expect(type(value) is type(wanted) and value == wanted, f"{field} of {chosen.env_id}", value, wanted)
        expect(type(each["beta"]) is float and each["beta"] == BETA, "beta", each["beta"], BETA)
        expect(type(each["controlled"]) is bool, "controlled", each["controlled"], "true or false")
        found = []
        for side, fields in (("rows", ROW_FIELDS), ("penalties", PENALTY_FIELDS)):
            listed = each[side]
            ok = isinstance(listed, list) and len(listed) <= _MOST_ROWS
            expect(ok, side, type(listed).__name__, f"a list of at most {_MOST_ROWS}")
            for row in listed:
                _fields(side, row, fields)
                name = "policy" if side == "rows" else "penalty"
                found += _check_row_words(row, name)
        hashes = [sha256 for _, sha256, _ in found]
        expect(len(set(hashes)) == len(hashes), f"submissions to {chosen.env_id}", len(hashes), "each once")
        looks.cover(chosen.key, found)


def _check_row_words(row: Data, side: str) -> list[tuple[str, str, int]]:
    """Compare a row's words; returns its look, if it is a submission."""
    name, sha256, look, beta = row[side], row["sha256"], row["look"], row["beta"]
    expect(isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME, side, name, "a name")
    if side == "policy":
        expect(row["kind"] in KINDS, "kind", row["kind"], ", ".join(KINDS))
        for field, top in (("promised", 1.0), ("decision_us", np.inf)):
            value = row[field]
            ok = (value is None and field == "promised") or (type(value) is float and 0.0 <= value <= top)
            expect(ok and value != np.inf, field, value, f"a number from 0 to {top:g}")
    shipped = side == "policy" and row["kind"] == "baseline"
    if shipped:
        expect(sha256 is None and look is None, f"look of {name}", look, "null for a baseline")
    else:
        expect(isinstance(sha256, str) and len(sha256) == 64, f"sha256 of {name}", sha256, "a hash")
        expect(type(look) is int and 1 <= look <= _MOST_ROWS, f"look of {name}", look, f"from 1 to {_MOST_ROWS}")
    share = BETA if shipped else look_share(BETA, look)
    expect(type(beta) is float and beta == share, f"beta of {name}", beta, repr(share))
    return [] if shipped else [(side, sha256, look)]


def _check_set(each: Data, sets: tuple[BoardSet, ...], adapters: Mapping[str, Adapter]) -> list[str]:
    chosen = next(one for one in sets if one.env_id == each["env_id"])
    scene = scene_of(chosen)
    for field, wanted in (("instance_sha256", scene.instance.hash), ("per", scene.per), ("trial", scene.trial)):
        expect(each[field] == wanted, f"{field} of {chosen.env_id}", each[field], wanted)
    expect(isinstance(each["bound_name"], str), "bound_name", each["bound_name"], "a name")
    periods = len(scene.scenario[0]) if scene.units is None else len(scene.units)
    bound = numbers("bound_usd", each["bound_usd"], (periods,))
    proven = certified_bound(chosen, scene, bound, each["bound_certificate"])
    claims = [proven.claim]
    controlled = proven.penalty is not None
    expect(each["controlled"] == controlled, "controlled", each["controlled"], f"{controlled}, as the bound has it")
    for row in each["rows"]:
        _check_policy(row, scene, bound, proven)
    for row in each["penalties"]:
        expect(chosen.env_id in adapters, "penalties", len(each["penalties"]), "none: no way to read them here")
        _check_penalty(row, scene, adapters[chosen.env_id], periods, chosen.seed)
    count = len(each["rows"])
    claims.append(f"{chosen.env_id}: returns, gaps, violations and limits of {count} policies hold, replayed")
    if each["penalties"]:
        claims.append(f"{chosen.env_id}: bounds of {len(each['penalties'])} penalties hold, recomputed")
    return claims


def _check_policy(row: Data, scene: Scene, bound: Floats, proven: Proven) -> None:
    name = row["policy"]
    model, episodes = _replay(row, scene)
    returns = numbers(f"returns of {name}", row["returns_usd"], bound.shape)
    _same(f"return of {name}", returns, scene.returns(episodes))
    gaps = bound - returns
    if proven.penalty is not None:
        gaps = gaps + proven.penalty(model, episodes)
    stated = numbers(f"gaps of {name}", row["gaps_usd"], bound.shape)
    _same(f"gap of {name}", stated, gaps)
    if scene.pathwise:
        expect(
            stated.min() >= -1e-9, f"gap of {name}", float(stated.min()), "return - z at most the bound on every path"
        )
    counted = scene.violations(episodes, row["beta"] / 2.0)
    figures = policy_figures(returns, stated, bound, scene.units, counted, row["beta"])
    _figures(name, row, figures)


def _replay(row: Data, scene: Scene) -> tuple[Any, Episodes]:
    plan = row["plan_kwh"]
    ok = plan is None or (isinstance(plan, list) and all(type(value) is float for value in plan))
    expect(ok, f"plan_kwh of {row['policy']}", plan, "null or numbers")
    model = scene.model(plan)
    episodes = len(scene.scenario[0])
    whole = model.choices is not None
    shape = (episodes, model.steps) if whole else (episodes, model.steps, model.action_size)
    actions = numbers(f"actions of {row['policy']}", row["actions"], shape, "<i4" if whole else "<f4")
    return model, rollout(model, scene.scenario, Recorded(actions))


def _check_penalty(row: Data, scene: Scene, adapter: Adapter, periods: int, seed: int) -> None:
    name = row["penalty"]
    expect(isinstance(row["data"], Mapping), f"data of {name}", row["data"], "a JSON object")
    digest = data_hash(row["data"])
    expect(row["sha256"] == digest, f"sha256 of {name}", row["sha256"], digest)
    stated = numbers(f"bound of {name}", row["bound_usd"], (periods,))
    _same(f"bound of {name}", stated, adapter(scene.model(None), scene.scenario, row["data"], seed))
    _figures(name, row, penalty_figures(stated, scene.units, row["beta"]))


def _same(what: str, stated: Floats, true: Floats) -> None:
    """Compare arrays entry by entry."""
    expect(np.shape(true) == stated.shape, f"shape of {what}", stated.shape, np.shape(true))
    worst = int(np.abs(stated - true).argmax())
    near(f"{what} in period {worst}", float(stated[worst]), float(true[worst]), _MONEY)


def _figures(name: str, row: Data, figures: Mapping[str, Any]) -> None:
    for field, true in figures.items():
        if isinstance(true, float):
            near(f"{field} of {name}", row[field], true)
        else:
            expect(type(row[field]) is type(true) and row[field] == true, f"{field} of {name}", row[field], true)
