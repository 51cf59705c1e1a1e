"""A leaderboard of two tiny sets, made once, and what the tests around it share."""

from functools import lru_cache
from types import SimpleNamespace

import pytest

pytest.importorskip("stable_baselines3")

from agents import leaderboard
from agents.config import load as load_config
from agents.leaderboard import Submissions, update
from agents.leaderboard_check import check_leaderboard
from agents.leaderboard_entries import baselines_of
from agents.leaderboard_sets import BoardSet, scene_of
from agents.leaderboard_submissions import PenaltyEntry, PolicyEntry, bundle_entry, data_hash
from agents.sb3 import train
from baselines.price_chain.hindsight import hindsight
from baselines.price_chain.policies import TablePolicy, late_plan

CHAIN, LOT = "V2G/PriceChain-v0", "V2G/ParkingLot-v0"
SETS = (BoardSet(LOT, "generator", 40, 7001), BoardSet(CHAIN, "generator", 80, 7007))


def oracle(model, scenario, data, seed):
    """A fake way to read penalties: perfect information plus what the file says."""
    return hindsight(model, scenario) + data["add_usd"]


ADAPTERS = {CHAIN: oracle}


def late(model):
    return TablePolicy(model, late_plan(model))


def penalty(name, add_usd):
    data = {"add_usd": add_usd}
    return PenaltyEntry(name, data_hash(data), data)


def chain_of(content):
    return next(each for each in content["sets"] if each["env_id"] == CHAIN)


def row_of(content, policy):
    return next(row for row in chain_of(content)["rows"] if row["policy"] == policy)


@pytest.fixture(scope="session")
def kit():
    """Names and helpers, as pytest's import mode lets test files share no module."""
    return SimpleNamespace(
        CHAIN=CHAIN,
        LOT=LOT,
        SETS=SETS,
        ADAPTERS=ADAPTERS,
        late=late,
        penalty=penalty,
        chain_of=chain_of,
        row_of=row_of,
        verify=lambda content, looks: check_leaderboard(content, looks, SETS, ADAPTERS),
    )


@lru_cache
def _shipped(env_id):
    chosen = next(each for each in SETS if each.env_id == env_id)
    return baselines_of(env_id, scene_of(chosen).model(None))


@pytest.fixture(scope="session", autouse=True)
def tuned_once():
    """Tuning the shipped rules takes longer than everything else here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaderboard, "baselines_of", lambda env_id, model: _shipped(env_id))
        yield


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    config = load_config("price_chain_ppo").replace(total_steps=6144)
    return train(config, tmp_path_factory.mktemp("leader") / "tiny", progress=False).bundle


@pytest.fixture(scope="session")
def done(bundle, tmp_path_factory):
    """Content and folder; nobody writes there."""
    folder = tmp_path_factory.mktemp("board")
    new = {CHAIN: Submissions([bundle_entry(bundle)], [PolicyEntry("late again", late)], [penalty("oracle", 1.0)])}
    return update(folder, new, sets=SETS, adapters=ADAPTERS), folder


@pytest.fixture
def copied(done, tmp_path):
    """A copy of the folder to go on in."""
    for name in ("leaderboard.json", "looks.json"):
        (tmp_path / name).write_bytes((done[1] / name).read_bytes())
    return tmp_path
