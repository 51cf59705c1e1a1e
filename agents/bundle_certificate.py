"""A trained policy's own certificate: what it earns, how far from the proven bound, how often it violates.

``certificate.json`` lies in the bundle's folder and names the bundle's hash. Its check needs NumPy alone: it draws the
scenarios again, lets the network act on them, compares what it does with the recorded actions, hands bound and policy
to baselines.certificate.check, which recompute them from evidence and recorded actions without a solver, and makes the
gap of every period from both (agents.bundle_gaps). A certificate is written only after it has passed this check.

Sums in single precision differ in their last digit between machines, which can turn a choice between two equally good
ones: actions have to agree within 1e-3, and at most 1 of 1000 choices may differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.boards import board_of, default_periods, problem_of, world_of
from agents.bound_kinds import Drawn
from agents.bundle import Bundle, load_bundle
from agents.bundle_gaps import Scores, scored
from agents.compare import Contestant, evaluate
from baselines.certificate import CertificateError, check, load, pack, save, unpack
from baselines.checking import expect, near, numbers, whole_number
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.metrics import mean_interval, upper_limit
from v2g_env.rollout import Episodes, Recorded, rollout

__all__ = ["CERTIFICATE", "FORMAT", "certify_bundle", "check_bundle", "read_certificate"]

CERTIFICATE = "certificate.json"
FORMAT = "v2g-env bundle certificate 1"
_HEAD = {"format", "bundle_sha256", "env_id", "law", "seed", "periods", "beta", "policy", "bound"}
_KEYS = _HEAD | {"gap_usd", "summary"}
_ACTIONS, _CHOICES, _MONEY = 1e-3, 1e-3, 1e-6
_MOST_PERIODS = 20_000
_COUNTS = {  # kinds of policy certificates, and where they say what was violated, and among how many
    ("parking_lot", "policy"): ("risk", "violated", "days"),
    ("stackelberg", "policy"): ("risk", "violated", "trials"),
    ("scheduling", "days policy"): ("risk", "violated", "steps"),
    ("shared_battery", "week policy"): ("risk", "unserved", "visits"),
    ("shared_battery", "season policy"): ("risk", "violated", "days"),
    ("price_chain", "price chain policy"): ("sample", "violations", "n_samples"),
}

Data = dict[str, Any]


class _Established(NamedTuple):
    """What follows from a certificate's parts: claims, the gap of every period, and the numbers for people."""

    claims: tuple[str, ...]
    scores: Scores
    summary: Data


def certify_bundle(
    path: str | Path,
    law: str = "generator",
    periods: int | None = None,
    seed: int = 3,
    beta: float = 1e-5,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[str, ...]:
    """Evaluate a bundle on fresh scenarios and write its certificate into its folder, after checking it.

    Args:
        path: the bundle's folder.
        law: of the scenarios.
        periods: days, weeks or seasons; None: as many as an evaluation has.
        seed: of the scenarios.
        beta: confidence parameter of the limit on violations.
        say: receives a line per stage.

    Returns:
        What holds, one sentence each.

    Raises:
        BundleError: for a damaged bundle.
        InvalidInputError: for an environment or law whose policies have no certificate, a number out of range.
        CertificateError: for a certificate that would not hold; then nothing is written.
    """
    bundle = load_bundle(path)
    made = bundle.env_kwargs
    count = default_periods(bundle.env_id) if periods is None else periods
    number("days", count, 1, _MOST_PERIODS, integer=True)
    board = board_of(bundle.env_id, made["instance"], law, count, seed, beta, made.get("plan_kwh"), say)
    if board.certify is None:
        raise InvalidInputError(f"law = {law!r}; allowed: one whose policies can be certified")
    contestant = Contestant(_name(bundle), "agent", lambda _: bundle, sha256=bundle.hash)
    result = evaluate(contestant, board.test)
    head = {
        "format": FORMAT,
        "bundle_sha256": bundle.hash,
        "env_id": bundle.env_id,
        "law": board.test.model.law.name,
        "seed": seed,
        "periods": result.row.days,
        "beta": float(beta),
        "policy": board.certify(contestant, result),
        "bound": board.bound,
    }
    say("checking the certificate")
    head = json.loads(json.dumps(head, allow_nan=False))
    found = _guarded(bundle, head)
    gap = found.scores.gap
    save(head | {"gap_usd": None if gap is None else pack(gap), "summary": found.summary}, Path(path) / CERTIFICATE)
    return found.claims


def read_certificate(path: str | Path, bundle_sha256: str) -> Data:
    """Content of a bundle's certificate after comparing its words, no number yet; see ``check_bundle``."""
    file = Path(path) / CERTIFICATE
    if not file.is_file():
        raise CertificateError(f"{file} = missing; allowed: a certificate, see v2g evaluate --certify")
    data = load(file)
    expect(data.get("format") == FORMAT, "format", data.get("format"), FORMAT)
    expect(set(data) == _KEYS, "fields", sorted(data), ", ".join(sorted(_KEYS)))
    expect(data["bundle_sha256"] == bundle_sha256, "bundle_sha256", data["bundle_sha256"], bundle_sha256)
    return data


def check_bundle(path: str | Path) -> tuple[str, ...]:
    """Check a bundle and its certificate; no torch, no solver.

    Args:
        path: the bundle's folder.

    Returns:
        What holds, one sentence each.

    Raises:
        BundleError: for a damaged bundle.
        CertificateError: with the reason, for a certificate that is missing or does not hold.
    """
    bundle = load_bundle(path)
    data = read_certificate(path, bundle.hash)
    found = _guarded(bundle, data)
    if found.scores.gap is None:
        expect(data["gap_usd"] is None, "gap_usd", data["gap_usd"], "null: there is no certificate of a bound")
    else:
        gap = numbers("gap_usd", data["gap_usd"], found.scores.gap.shape)
        worst = int(np.abs(gap - found.scores.gap).argmax())
        near(f"gap of period {worst}", float(gap[worst]), float(found.scores.gap[worst]), _MONEY)
    stated = data["summary"]
    ok = isinstance(stated, Mapping) and set(stated) == set(found.summary)
    expect(ok, "summary", stated, ", ".join(sorted(found.summary)))
    for name, value in found.summary.items():
        if value is None:
            expect(stated[name] is None, f"summary.{name}", stated[name], "null")
        else:
            near(f"summary.{name}", stated[name], value, _MONEY)
    return found.claims


def _name(bundle: Bundle) -> str:
    """What certificates call the policy: it names nothing that could be another one."""
    return f"{bundle.config['algorithm']} {bundle.hash[:12]}"


def _guarded(bundle: Bundle, data: Data) -> _Established:
    """``_establish``, every complaint about malformed data as CertificateError."""
    try:
        with np.errstate(all="ignore"):  # absurd numbers overflow; every comparison refuses what is not finite
            return _establish(bundle, data)
    except CertificateError:
        raise
    except KeyError as missing:
        raise CertificateError(f"field {missing} = missing; allowed: every field of its kind") from None
    except (AttributeError, TypeError, ValueError, IndexError, ArithmeticError, MemoryError) as error:
        raise CertificateError(f"certificate = malformed: {error}") from None


def _establish(bundle: Bundle, data: Data) -> _Established:
    """Check policy and bound, let the network act, and compute every number again."""
    problem, policy, bound = problem_of(bundle.env_id), data["policy"], data["bound"]
    expect(data["env_id"] == bundle.env_id, "env_id", data["env_id"], bundle.env_id)
    _bind(bundle, data, problem)
    report = check(policy, bundle.model.instance)
    top = None if bound is None else check(bound, bundle.model.instance)
    made = bundle.env_kwargs
    model, scenario = world_of(
        bundle.env_id, made["instance"], data["law"], data["periods"], data["seed"], made.get("plan_kwh")
    )
    for part in (policy, bound):
        if part is not None:
            said = _law(part)
            expect(said == model.law.name, "law of a part", said, model.law.name)
    episodes, acted = _acted(bundle, model, scenario, policy)
    scores = scored(problem, Drawn(model, scenario, data["seed"]), episodes, bound)
    mean = {**policy, **policy["sample"]}
    mean = mean["mean_reward_usd" if problem == "stackelberg" else "mean_return_usd"]
    near("mean return of the policy's certificate", mean, float(scores.returns.mean()), _MONEY)
    summary = _summary(scores, _frequency(policy), report.values["eps"])
    claims = [*report.claims, acted]
    if top is not None:
        claims += [*top.claims, _gap_claim(scores, summary)]
    else:
        claims.append("nothing is claimed about a bound: there is no certificate of one")
    return _Established(tuple(claims), scores, summary)


def _bind(bundle: Bundle, data: Data, problem: str) -> None:
    """Policy and bound must be about this bundle and these scenarios; sizes are compared before anything is drawn."""
    periods = whole_number("periods", data["periods"], 1, _MOST_PERIODS)
    seed = whole_number("seed", data["seed"], 0, 2**63 - 1)
    beta, policy, bound = data["beta"], data["policy"], data["bound"]
    expect(type(beta) is float and 0.0 < beta < 1.0, "beta", beta, "a number in (0, 1)")
    expect(isinstance(data["law"], str), "law", data["law"], "the name of a law")
    expect(isinstance(policy, Mapping), "policy", policy, "a certificate")
    expect(bound is None or isinstance(bound, Mapping), "bound", bound, "a certificate, or null")
    key = (policy.get("problem"), policy.get("kind"))
    expect(key in _COUNTS and key[0] == problem, "kind of the policy's certificate", key, f"one of {problem}'s")
    expect(policy.get("policy_sha256") == bundle.hash, "policy_sha256", policy.get("policy_sha256"), bundle.hash)
    expect(policy["policy"] == _name(bundle), "policy", policy["policy"], _name(bundle))
    stated = policy[_COUNTS[key][0]]["beta"]
    expect(type(stated) is float and stated == beta, "beta of the policy's certificate", stated, beta)
    month = bundle.model.instance.days if problem == "stackelberg" else 1  # an episode is a month there
    expect(periods % month == 0, "periods", periods, f"a multiple of {month}")
    for part in [policy] if bound is None or "sample" not in bound else [policy, bound]:
        for field, wanted in (("seed", seed), ("n_samples", periods // month)):
            value = part["sample"][field]
            expect(type(value) is int and value == wanted, f"sample.{field}", value, wanted)
    expect(
        bound is None or bound.get("problem") == problem, "problem of the bound", bound and bound["problem"], problem
    )


def _law(part: Mapping[str, Any]) -> str:
    """Name of the law that a certificate speaks of; the price chain leaves its own out."""
    named = part.get("law")
    if isinstance(named, Mapping):
        return str(named["name"])
    return str(part.get("sample", {}).get("law", "generator"))


def _acted(bundle: Bundle, model: Any, scenario: Any, policy: Mapping[str, Any]) -> tuple[Episodes, str]:
    """Let the network see what the recorded policy leads to, and compare what both do."""
    table = "plan" in policy  # of a policy without memory, in every state
    if table:
        from baselines.price_chain.policies import TablePolicy, tabulate

        plan = unpack(policy["plan"])
        share = float((tabulate(model, bundle) != plan).mean())
        expect(
            share <= _CHOICES, "plan", f"{share:g} of its choices differ", f"at most {_CHOICES:g} from the network's"
        )
        leader: Policy = TablePolicy(model, plan)
    else:
        leader = Recorded(unpack(policy["actions"]))
    led = _Led(bundle, leader)
    episodes = rollout(model, scenario, led)
    if model.choices is None:
        expect(led.worst <= _ACTIONS, "actions", f"{led.worst:g} off", f"the network's within {_ACTIONS:g}")
        return episodes, f"the recorded actions are those that the bundle's network takes, within {_ACTIONS:g}"
    share = led.different / led.count
    expect(share <= _CHOICES, "actions", f"{share:g} differ", f"at most {_CHOICES:g} of the network's choices")
    where = "in every state" if table else "from its observations"
    return episodes, f"the recorded choices are those that the bundle's network makes {where}; {led.different} differ"


class _Led:
    """Does what a leader does, and compares it with what the bundle would do."""

    def __init__(self, bundle: Bundle, leader: Policy) -> None:
        self.bundle, self.leader = bundle, leader
        self.worst, self.different, self.count = 0.0, 0, 0

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], tuple[Any, ...]]:
        """The leader's actions."""
        first, second = state or (None, None)
        given, first = self.leader.predict(observation, first, episode_start, True)
        wanted, second = self.bundle.predict(observation, second, episode_start, True)
        expect(given.shape == wanted.shape, "shape of actions", given.shape, wanted.shape)
        expect(bool(np.isfinite(given).all()), "actions", "not finite", "finite numbers")
        self.worst = max(self.worst, float(np.abs(given - wanted).max()))
        self.different += int((given != wanted).sum())
        self.count += given.size
        return given, (first, second)


def _frequency(policy: Mapping[str, Any]) -> float:
    part, violated, trials = _COUNTS[policy["problem"], policy["kind"]]
    return float(policy[part][violated] / policy[part][trials])


def _summary(scores: Scores, frequency: float, limit: float) -> Data:
    """The numbers for people; null for what is not known (no bound; an infinite limit from one independent unit)."""
    summary: Data = dict.fromkeys(("bound_usd", "gap_usd", "gap_limit_usd", "gap_percent"))
    if scores.bound is not None and scores.gap is not None:
        bound, gap = (mean_interval(each, scores.units).mean for each in (scores.bound, scores.gap))
        top = upper_limit(scores.gap, scores.units)
        summary |= {"bound_usd": bound, "gap_usd": gap, "gap_limit_usd": top if np.isfinite(top) else None}
        summary["gap_percent"] = 100.0 * gap / bound if bound > 0.0 else None
    mean = mean_interval(scores.returns, scores.units).mean
    return summary | {"mean_usd": mean, "frequency": frequency, "limit": float(limit)}


def _gap_claim(scores: Scores, summary: Data) -> str:
    """What the gap means, in words."""
    share = "" if summary["gap_percent"] is None else f", {summary['gap_percent']:.2f} % of the bound"
    less = "bound less (return less penalty)" if scores.penalised else "bound less return"
    limit = summary["gap_limit_usd"]
    top = "" if limit is None else f"; its expectation is at most {limit:.4f} $ (95 %, asymptotic)"
    return f"certified gap: {less} is {summary['gap_usd']:.4f} $ a period on average{share}{top}"
