"""Certificates of trained policies: they hold for every family, and nothing in them can be changed."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from agents.boards import board_of, world_of
from agents.bound_kinds import KINDS, Drawn
from agents.bundle import load_bundle, save_bundle
from agents.bundle_certificate import CERTIFICATE, certify_bundle, check_bundle
from agents.bundle_gaps import scored
from agents.compare import Contestant, evaluate
from agents.config import TrainConfig
from agents.learners import build_model, policy_tensors
from agents.vec_env import make_training
from baselines.certificate import CertificateError, pack, unpack
from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import upper_limit
from v2g_env.rollout import Recorded, rollout

ON = {"n_steps": 8, "batch_size": 32, "n_epochs": 1, "net_arch": [8]}
# environment and algorithm of a family, and periods of its certificate
FAMILIES = {
    "parking lot": ({"id": "V2G/ParkingLot-v0"}, "ppo", 12),
    "price chain": ({"id": "V2G/PriceChain-v0"}, "maskable_ppo", 60),
    "allocation": ({"id": "V2G/SharedBatteryAllocation-v0", "instance": {"drivers": 4, "week_days": 3}}, "ppo", 20),
    "partial": ({"id": "V2G/SharedBatteryAllocationPartial-v0", "instance": {"drivers": 4, "week_days": 3}}, "ppo", 20),
    "sizing": ({"id": "V2G/SharedBatterySizing-v0", "instance": {"drivers": 3, "season_days": 20}}, "ppo", 6),
    "scheduling": ({"id": "V2G/Scheduling-v0", "instance": {"cars": 20}}, "ppo", 2),
    "game": ({"id": "V2G/Stackelberg-v0", "instance": {"days": 2}}, "ppo", 4),
}


def make(path, name, seed=0):
    """Bundle of an untrained network: what it does is bad, which no certificate minds."""
    env, algorithm, _ = FAMILIES[name]
    values = {"algorithm": algorithm, "env": env, "num_envs": 4, "hyperparameters": ON, "seed": seed}
    config = TrainConfig.from_dict(values)
    envs = make_training(config)
    save_bundle(path, config, policy_tensors(build_model(config, envs), algorithm, envs.normaliser), 0)
    envs.close()
    return path


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Folder of a certified bundle, and the claims, by family."""
    root = tmp_path_factory.mktemp("bundles")

    @cache
    def one(name):
        path = make(root / name.replace(" ", "-"), name)
        return path, certify_bundle(path, periods=FAMILIES[name][2])

    return one


@pytest.fixture
def forged(certified, tmp_path):
    """Write a changed certificate beside an intact bundle and check it."""

    def forge(name, change):
        path, _ = certified(name)
        shutil.copytree(path, tmp_path / "b", dirs_exist_ok=True)
        data = json.loads((path / CERTIFICATE).read_text())
        given = change(data)
        (tmp_path / "b" / CERTIFICATE).write_text(json.dumps(data if given is None else given))
        return check_bundle(tmp_path / "b")

    return forge


@pytest.mark.parametrize("name", FAMILIES)
def test_a_certificate_holds_when_it_is_read_again(name, certified):
    path, claims = certified(name)
    assert check_bundle(path) == claims
    assert any("network" in claim for claim in claims)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_numbers_are_those_of_an_evaluation(name, certified):
    path, _ = certified(name)
    bundle, found = load_bundle(path), json.loads((path / CERTIFICATE).read_text())
    made = bundle.env_kwargs
    board = board_of(bundle.env_id, made["instance"], "generator", FAMILIES[name][2])
    row = evaluate(Contestant("x", "agent", lambda _: bundle), board.test)
    summary = found["summary"]
    assert summary["mean_usd"] == pytest.approx(row.row.mean_usd)
    assert (summary["frequency"], summary["limit"]) == pytest.approx((row.row.frequency, row.row.limit))
    if board.bound is None:
        assert summary["gap_usd"] is summary["bound_usd"] is summary["gap_limit_usd"] is found["gap_usd"] is None
        return
    np.testing.assert_allclose(unpack(found["gap_usd"]), row.gap, atol=1e-6)
    assert summary["gap_usd"] == pytest.approx(row.row.gap_usd)
    assert summary["gap_limit_usd"] == pytest.approx(upper_limit(row.gap, board.test.units))
    known = row.row.gap_percent if np.isfinite(row.row.gap_percent) else None
    assert summary["gap_percent"] == (None if known is None else pytest.approx(known))


def test_every_kind_of_bound_that_boards_make_can_be_recomputed(certified):
    kinds = set()
    for name in FAMILIES:
        path, _ = certified(name)
        bound = json.loads((path / CERTIFICATE).read_text())["bound"]
        kinds |= set() if bound is None else {bound["kind"]}
    assert kinds <= set(KINDS)


def test_the_check_runs_without_torch_and_without_a_solver(certified):
    paths = [str(certified(name)[0]) for name in FAMILIES]
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"torch", "highspy", "clarabel", "cvxpy", "stable_baselines3", "sb3_contrib"}}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
from agents.models import check_folder
for path in {paths!r}:
    print(len(check_folder(path)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split("\n")) == len(FAMILIES) + 1


# what somebody might change


def _summary(key, factor):
    def change(data):
        data["summary"][key] *= factor

    return change


def _set(*path):
    *way, last, value = path

    def change(data):
        for key in way:
            data = data[key]
        assert data[last] != value
        data[last] = value

    return change


def _smaller_gaps(data):
    """Gaps and all that follows from them, as they would be with a better policy."""
    gap = unpack(data["gap_usd"]) * 0.5
    data["gap_usd"] = pack(gap)
    data["summary"]["gap_usd"] = float(gap.mean())
    data["summary"]["gap_limit_usd"] = upper_limit(gap)
    data["summary"]["gap_percent"] *= 0.5


def _even_gaps(data):
    """The same mean without spread: a lower limit."""
    gap = unpack(data["gap_usd"])
    data["gap_usd"] = pack(np.full(len(gap), gap.mean()))
    data["summary"]["gap_limit_usd"] = float(gap.mean())


def _other_actions(data):
    actions = unpack(data["policy"]["actions"]).copy()
    actions[0, 0] = -actions[0, 0] if actions.dtype == np.float32 else 1 - actions[0, 0]
    data["policy"]["actions"] = pack(actions)


def _nan_actions(data):
    actions = unpack(data["policy"]["actions"]).copy()
    actions[0, 0] = np.nan
    data["policy"]["actions"] = pack(actions)


def _nan_gaps(data):
    data["gap_usd"] = pack(unpack(data["gap_usd"]) * np.nan)


def _no_bound(data):
    data["bound"] = None


def _no_bound_and_no_gap(data):
    data["bound"] = data["gap_usd"] = None


def _extra(data):
    data["note"] = "trust me"


def _missing(data):
    del data["beta"]


TAMPERED = {
    "a better mean": _summary("mean_usd", 0.9),
    "a better gap": _summary("gap_usd", 0.99),
    "a better limit of the gap": _summary("gap_limit_usd", 0.99),
    "a better share": _summary("gap_percent", 0.99),
    "another bound in the summary": _summary("bound_usd", 1.01),
    "a lower frequency": _set("summary", "frequency", 0.5),
    "a lower limit": _summary("limit", 0.9),
    "gaps halved": _smaller_gaps,
    "gaps without spread": _even_gaps,
    "gaps that are no numbers": _nan_gaps,
    "gaps of another type": _set("gap_usd", [1.0]),
    "no bound": _no_bound,
    "neither bound nor gap": _no_bound_and_no_gap,
    "another seed": _set("seed", 4),
    "another law": _set("law", "nobody's"),
    "a law that is no name": _set("law", 3),
    "another environment": _set("env_id", "V2G/PriceChain-v0"),
    "fewer periods": _set("periods", 5),
    "periods without end": _set("periods", 10**30),
    "true periods": _set("periods", True),
    "another beta": _set("beta", 0.5),
    "a beta that is none": _set("beta", "small"),
    "the hash of another bundle": _set("bundle_sha256", "0" * 64),
    "a policy of another bundle": _set("policy", "policy_sha256", "0" * 64),
    "another name": _set("policy", "policy", "the optimum"),
    "a policy of another seed": _set("policy", "sample", "seed", 9),
    "samples without end": _set("policy", "sample", "n_samples", 10**15),
    "a policy of another kind": _set("policy", "kind", "week certified gap"),
    "a policy of another problem": _set("policy", "problem", "parking_lot" * 2),
    "a policy that is none": _set("policy", [1, 2]),
    "a bound that is none": _set("bound", "high"),
    "a bound of another kind": _set("bound", "kind", "season bound"),
    "a bound of another seed": _set("bound", "sample", "seed", 9),
    "a higher bound": _set("bound", "mean_bound_usd", 1e6),
    "another format": _set("format", "v2g-env bundle certificate 2"),
    "a summary that is none": _set("summary", 1.0),
    "one field more": _extra,
    "one field less": _missing,
    "other actions": _other_actions,
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_changed_certificate_is_refused(name, forged):
    with pytest.raises(CertificateError):
        forged("allocation", TAMPERED[name])


@pytest.mark.parametrize("family", ["parking lot", "partial"])
@pytest.mark.parametrize("change", [_other_actions, _nan_actions, _even_gaps, _smaller_gaps, _no_bound])
def test_other_numbers_are_refused_where_actions_are_numbers(family, change, forged):
    with pytest.raises(CertificateError):
        forged(family, change)


def test_a_better_plan_of_the_chain_is_refused_even_if_its_own_numbers_are_right(certified, forged):
    from baselines.price_chain.policies import TablePolicy
    from baselines.price_chain.values import solve
    from baselines.price_chain.verify import policy_certificate

    path, _ = certified("price chain")
    bundle = load_bundle(path)
    model, days = world_of(bundle.env_id, bundle.env_kwargs["instance"], "generator", 60, 3)
    plan = solve(model).plan
    episodes = rollout(model, days, TablePolicy(model, plan))

    def change(data):
        name = data["policy"]["policy"]
        data["policy"] = policy_certificate(model, plan, name, 3, episodes, 1e-5, bundle.hash)

    with pytest.raises(CertificateError, match="plan"):
        forged("price chain", change)


def test_a_bound_of_another_chain_is_refused(forged):
    def change(data):
        data["bound"]["law"] = {"name": "harsher", "rows": pack(np.zeros((24, 8, 8)))}

    with pytest.raises(CertificateError):
        forged("price chain", change)


def test_the_game_cannot_claim_a_gap_without_a_bound(forged):
    def change(data):
        data["gap_usd"] = pack(np.zeros(4))
        data["summary"] |= {"bound_usd": 1.0, "gap_usd": 0.0, "gap_limit_usd": 0.0, "gap_percent": 0.0}

    with pytest.raises(CertificateError, match="gap_usd"):
        forged("game", change)
    with pytest.raises(CertificateError, match=r"summary\.gap_usd"):
        forged("game", _set("summary", "gap_usd", 1.0))


def test_a_certificate_of_another_training_is_refused(certified, tmp_path):
    path, _ = certified("sizing")
    other = make(tmp_path / "other", "sizing", seed=1)
    shutil.copy(path / CERTIFICATE, other / CERTIFICATE)
    with pytest.raises(CertificateError, match="bundle_sha256"):
        check_bundle(other)
    # not even with the hash put right everywhere
    data = json.loads((path / CERTIFICATE).read_text())
    text = json.dumps(data).replace(data["bundle_sha256"], load_bundle(other).hash)
    text = text.replace(data["bundle_sha256"][:12], load_bundle(other).hash[:12])
    (other / CERTIFICATE).write_text(text)
    with pytest.raises(CertificateError, match="actions"):
        check_bundle(other)


def _leaves(data, path=()):
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _leaves(value, (*path, key))


def test_no_entry_can_be_replaced_by_nonsense(certified, tmp_path):
    path, _ = certified("sizing")
    shutil.copytree(path, tmp_path / "b")
    whole = json.loads((path / CERTIFICATE).read_text())
    rng = np.random.default_rng(5)
    places = [place for place in _leaves(whole) if len(place) < 4]
    for place in places:
        for value in rng.permutation(np.array([None, True, -1, 1e308, "x", [], {}, float("nan"), 2**70], object))[:2]:
            data = copy.deepcopy(whole)
            part = data
            for key in place[:-1]:
                part = part[key]
            if type(part[place[-1]]) is type(value) and part[place[-1]] == value:
                continue
            part[place[-1]] = value
            (tmp_path / "b" / CERTIFICATE).write_text(json.dumps(data))
            with pytest.raises(CertificateError):
                check_bundle(tmp_path / "b")
                pytest.fail(f"{place} = {value!r} was accepted")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"format": NaN}', "[" * 10**5])
def test_files_that_are_no_certificate_are_refused(text, certified, tmp_path):
    path, _ = certified("sizing")
    shutil.copytree(path, tmp_path / "b")
    (tmp_path / "b" / CERTIFICATE).write_text(text)
    with pytest.raises(CertificateError):
        check_bundle(tmp_path / "b")
    (tmp_path / "b" / CERTIFICATE).unlink()
    with pytest.raises(CertificateError, match="missing"):
        check_bundle(tmp_path / "b")


def _played(name, certified, policy_of):
    """The policy's certificate, all its numbers right, of somebody else who calls himself the bundle."""
    bundle = load_bundle(certified(name)[0])
    board = board_of(bundle.env_id, bundle.env_kwargs["instance"], "generator", FAMILIES[name][2])
    title = f"ppo {bundle.hash[:12]}"
    contestant = Contestant(title, "agent", lambda model: policy_of(board, bundle), sha256=bundle.hash)
    return json.loads(json.dumps(board.certify(contestant, evaluate(contestant, board.test))))


@pytest.mark.parametrize("name", ["sizing", "allocation", "scheduling"])
def test_a_policy_whose_own_certificate_is_right_is_refused_if_it_is_not_the_bundles(name, certified, forged):
    def idle(board, bundle):
        actions = rollout(board.test.model, board.test.scenario, bundle).actions
        whole = actions.dtype.kind == "i"
        return Recorded(1 - np.minimum(actions, 1) if whole else np.full_like(actions, -1.0))

    policy = _played(name, certified, idle)
    with pytest.raises(CertificateError, match="actions = .*allowed: .*the network's"):
        forged(name, lambda data: data.update(policy=policy))


@pytest.mark.parametrize(("by", "text"), [(5e-4, "mean_usd|gap of period"), (5e-3, "actions = .* off")])
def test_single_precision_of_another_machine_is_tolerated_and_more_is_not(by, text, certified, forged):
    def nudged(board, bundle):
        actions = rollout(board.test.model, board.test.scenario, bundle).actions
        return Recorded(np.clip(actions + np.float32(by), -1.0, 1.0))

    policy = _played("sizing", certified, nudged)
    with pytest.raises(CertificateError, match=text):  # of tolerated actions what they earn still has to be right
        forged("sizing", lambda data: data.update(policy=policy))


def test_gaps_below_a_bound_on_whole_months_are_those_of_the_board():
    from baselines.certificate import check
    from baselines.stackelberg.online import OnlineSolver, online_bound, penalty_of
    from baselines.stackelberg.policies import NoRebates
    from baselines.stackelberg.verify_online import bound_certificate

    model, months = world_of("V2G/Stackelberg-v0", {"days": 2}, "generator", 2, 3)
    solver = OnlineSolver(model.instance, time_limit_s=2.0)
    top = online_bound(model.instance, months, solver=solver)
    certificate = json.loads(json.dumps(bound_certificate(solver, 3, 1)))
    episodes = rollout(model, months, NoRebates(model))
    scores = scored("stackelberg", Drawn(model, months, 3), episodes, certificate)
    luck = penalty_of(model, months, episodes.actions)
    np.testing.assert_allclose(scores.gap, (top.bound_usd - episodes.rewards + luck).ravel(), rtol=1e-5)
    assert scores.bound.mean() == pytest.approx(check(certificate).values["mean_bound_usd"])
    assert scores.units.tolist() == [0, 0]


def test_gaps_below_a_networks_penalised_days_are_bound_less_penalised_return():
    from baselines.certificate import check
    from baselines.scheduling.penalty import default, penalty_of
    from baselines.scheduling.penalty_bound import penalised
    from baselines.scheduling.policies import Uncontrolled
    from baselines.scheduling.verify_penalty import penalised_certificate

    model, days = world_of("V2G/Scheduling-v0", {"cars": 20}, "generator", 2, 3)
    penalty = default()
    top = penalised(model, days, penalty)
    certificate = json.loads(json.dumps(penalised_certificate(model, 3, penalty, top)))
    episodes = rollout(model, days, Uncontrolled(model, 1.0))
    scores = scored("scheduling", Drawn(model, days, 3), episodes, certificate)
    np.testing.assert_allclose(scores.bound, top.bound_usd)
    np.testing.assert_allclose(
        scores.gap, top.bound_usd - episodes.returns + penalty_of(model, days, episodes.actions, penalty)
    )
    assert scores.penalised
    assert scores.bound.mean() == pytest.approx(check(certificate).values["mean_bound_usd"])


def test_a_bound_that_lies_too_low_or_is_of_an_unknown_kind_is_refused(certified):
    path, _ = certified("partial")
    bundle, bound = load_bundle(path), json.loads((path / CERTIFICATE).read_text())["bound"]
    model, weeks = world_of(bundle.env_id, bundle.env_kwargs["instance"], "generator", 20, 3)
    episodes = rollout(model, weeks, bundle)
    lucky = Drawn(model, weeks, 3), episodes._replace(money=episodes.money + 1e3)
    with pytest.raises(CertificateError, match="weak duality"):
        scored("shared_battery", *lucky, bound)
    for kind in ("season", None, ["week hindsight bound"]):
        with pytest.raises(CertificateError, match="kind of the bound"):
            scored("shared_battery", *lucky, bound | {"kind": kind})


def test_what_would_not_hold_is_not_written(tmp_path, monkeypatch):
    path = make(tmp_path / "b", "sizing")
    with monkeypatch.context() as patch:
        patch.setattr("agents.bundle_certificate._MONEY", -1.0)
        with pytest.raises(CertificateError):
            certify_bundle(path, periods=4)
    assert not (path / CERTIFICATE).exists()
    certify_bundle(path, periods=4)
    assert check_bundle(path)


def test_one_period_gives_no_limit_of_the_gap_but_a_certificate(tmp_path):
    path = make(tmp_path / "b", "sizing")
    claims = certify_bundle(path, periods=1)
    assert check_bundle(path) == claims
    assert json.loads((path / CERTIFICATE).read_text())["summary"]["gap_limit_usd"] is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"periods": 0}, "days"), ({"periods": 10**6}, "days"), ({"seed": -1}, "seed"), ({"beta": 0.0}, "beta")],
)
def test_numbers_out_of_range_are_refused_before_anything_is_solved(changes, text, certified):
    with pytest.raises(InvalidInputError, match=text):
        certify_bundle(certified("sizing")[0], **changes)


def test_redraws_of_a_real_day_count_as_one_unit(tmp_path):
    path = make(tmp_path / "b", "parking lot")
    certify_bundle(path, law="days:jpl-2019/test", periods=150)
    assert check_bundle(path)
    bundle, found = load_bundle(path), json.loads((path / CERTIFICATE).read_text())
    made = bundle.env_kwargs
    model, days = world_of(bundle.env_id, made["instance"], "days:jpl-2019/test", 150, 3)
    scores = scored("parking_lot", Drawn(model, days, 3), rollout(model, days, bundle), found["bound"])
    assert len(np.unique(scores.units)) < 150
    assert found["summary"]["gap_limit_usd"] == pytest.approx(upper_limit(scores.gap, scores.units))
    assert abs(found["summary"]["gap_limit_usd"] - upper_limit(scores.gap)) > 1e-3
