"""What was changed in a leaderboard is refused."""

import copy
import json
import math

import pytest

from agents.boards import board_of
from agents.leaderboard import FORMAT
from agents.leaderboard_check import check_leaderboard
from agents.leaderboard_looks import Looks, look_share
from agents.leaderboard_sets import BETA
from baselines.certificate import CertificateError, pack, unpack


def _scaled(packed, factor):
    return pack(unpack(packed) * factor)


def _one_choice(packed):
    actions = unpack(packed).copy()
    actions[0, 0] = (actions[0, 0] + 1) % 3
    return pack(actions)


TAMPERINGS = {
    "mean": lambda each, row: row.update(mean_usd=row["mean_usd"] + 1e-3),
    "gap": lambda each, row: row.update(gap_percent=row["gap_percent"] - 1e-3),
    "limit": lambda each, row: row.update(limit=row["limit"] * 0.99),
    "gap-limit": lambda each, row: row.update(gap_limit_percent=row["gap_limit_percent"] - 0.1),
    "violated": lambda each, row: row.update(violated=row["violated"] + 1.0),
    "nan": lambda each, row: row.update(low_usd=math.nan),
    "bool": lambda each, row: row.update(trials=True),
    "text": lambda each, row: row.update(mean_usd="1"),
    "actions": lambda each, row: row.update(actions=_one_choice(row["actions"])),
    "returns": lambda each, row: row.update(returns_usd=_scaled(row["returns_usd"], 1.01)),
    "gaps": lambda each, row: row.update(gaps_usd=_scaled(row["gaps_usd"], 0.99)),
    "cut": lambda each, row: row.update(returns_usd=pack(unpack(row["returns_usd"])[:-1])),
    "huge": lambda each, row: row.update(actions={"dtype": "<i4", "shape": [10**9, 10**9], "data": ""}),
    "beta": lambda each, row: row.update(beta=BETA),
    "look": lambda each, row: row.update(look=2, beta=look_share(BETA, 2)),
    "baseline": lambda each, row: row.update(kind="baseline", sha256=None, look=None),
    "kind": lambda each, row: row.update(kind="oracle"),
    "hash": lambda each, row: row.update(sha256="1" * 64),
    "plan": lambda each, row: row.update(plan_kwh=[True]),
    "promise": lambda each, row: row.update(promised=-0.1),
    "time": lambda each, row: row.update(decision_us=math.inf),
    "twice": lambda each, row: each["rows"].append(dict(row)),
    "unknown-field": lambda each, row: row.update(comment="best"),
    "missing-field": lambda each, row: row.pop("promised"),
    "bound": lambda each, row: each.update(bound_usd=_scaled(each["bound_usd"], 0.9)),
    "bound-missing": lambda each, row: each.update(bound_certificate=None),
    "certificate": lambda each, row: each["bound_certificate"].update(value_usd=150.0),
    "seed": lambda each, row: each.update(seed=7008),
    "seed-bool": lambda each, row: each.update(seed=True),
    "periods": lambda each, row: each.update(periods=79),
    "instance": lambda each, row: each.update(instance_sha256="0" * 64),
    "set-beta": lambda each, row: each.update(beta=1e-3),
    "controlled": lambda each, row: each.update(controlled=True),
    "environment": lambda each, row: each.update(env_id="V2G/ParkingLot-v0"),
    "penalty-data": lambda each, row: each["penalties"][0].update(data={"add_usd": 0.0}),
    "penalty-bound": lambda each, row: each["penalties"][0].update(
        bound_usd=_scaled(each["penalties"][0]["bound_usd"], 0.9)
    ),
    "penalty-mean": lambda each, row: each["penalties"][0].update(mean_usd=0.0),
    "penalty-look": lambda each, row: each["penalties"][0].update(look=1, beta=look_share(BETA, 1)),
    "no-rows": lambda each, row: each.update(rows=None),
}


@pytest.mark.parametrize("name", sorted(TAMPERINGS))
def test_tampering_is_refused(kit, done, name):
    content, folder = done
    changed = {**content, "sets": [copy.deepcopy(kit.chain_of(content))]}
    TAMPERINGS[name](kit.chain_of(changed), kit.row_of(changed, "tiny"))
    with pytest.raises(CertificateError):
        kit.verify(changed, Looks.read(folder))


def test_a_foreign_bound_certificate_is_refused(kit, done):
    content, folder = done
    changed = copy.deepcopy(content)
    lot = next(each for each in changed["sets"] if each["env_id"] == kit.LOT)
    other = board_of(kit.LOT, {}, "generator", 40, 8, BETA)
    lot["bound_certificate"] = other.bound
    with pytest.raises(CertificateError, match="seed"):
        kit.verify(changed, Looks.read(folder))
    lot["bound_certificate"] = kit.chain_of(content)["bound_certificate"]
    with pytest.raises(CertificateError):
        kit.verify(changed, Looks.read(folder))


def _narrower(each):
    each["bound_certificate"]["plan_kwh"] = [0.01 * value for value in each["bound_certificate"]["plan_kwh"]]


PENALISED = {
    "uncontrolled": lambda each: each.update(controlled=False),
    "no-penalty-in-a-gap": lambda each: each["rows"][0].update(
        gaps_usd=pack(unpack(each["bound_usd"]) - unpack(each["rows"][0]["returns_usd"]))
    ),
    "critic": lambda each: each["bound_certificate"]["penalty"].update(scale=[0.5, 0.5]),
    "plan": _narrower,
    "bound": lambda each: each.update(bound_usd=_scaled(each["bound_usd"], 0.999)),
    "bound-and-certificate": lambda each: [
        one.update(bound_usd=_scaled(one["bound_usd"], 0.999)) for one in (each, each["bound_certificate"])
    ],
    "kind": lambda each: each["bound_certificate"].update(kind="policy"),
    "kind-of-another-environment": lambda each: each["bound_certificate"].update(kind="season bound"),
}


@pytest.mark.parametrize("name", sorted(PENALISED))
def test_tampering_with_a_penalised_bound_is_refused(kit, done, name):
    content, folder = done
    lot = copy.deepcopy(next(each for each in content["sets"] if each["env_id"] == kit.LOT))
    PENALISED[name](lot)
    with pytest.raises(CertificateError):
        kit.verify({**content, "sets": [lot]}, Looks.read(folder))


@pytest.mark.parametrize("content", [{}, {"format": "x", "sets": []}, {"format": FORMAT, "sets": [1]}, 3])
def test_what_is_no_leaderboard_is_refused(kit, content, tmp_path):
    (tmp_path / "leaderboard.json").write_text(json.dumps(content))
    with pytest.raises(CertificateError):
        check_leaderboard(tmp_path, sets=kit.SETS)
