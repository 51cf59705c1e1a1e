"""Certificates of evaluated policies: every action they took, what it earned, and how often a bid was not kept.

The check draws the months again from their seed, replays the actions through the environment's model and recomputes
every number; it contains no solver. Actions are the policy's own record: that the policy chose them from observations
is not part of the claim, the hash of a trained policy names it.

What is counted: periods in which the cars' power falls short of r_t C_t, the event that eta bounds. With response
"model" the periods of a day are independent given its actions, and every period is a trial; with "population" they are
not, and the trial is a day with its share of such periods. Actions may depend on earlier days, so the limit is
``risk.adaptive``: it bounds the mean probability of the event over these very days, given what was done on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from baselines import risk
from baselines.certificate import FORMAT, CertificateError, Report, pack, unpack
from baselines.checking import expect, near
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Episodes, Recorded, rollout
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import FACTS, Model
from v2g_env.stackelberg.scenario import law, sample

__all__ = ["Kept", "count_violations", "policy_certificate", "verify_policy"]

Data = Mapping[str, Any]

_KIND = "policy"
_FIELDS = {
    "format",
    "problem",
    "kind",
    "instance_sha256",
    "instance",
    "sample",
    "policy",
    "policy_sha256",
    "actions",
    "mean_reward_usd",
    "risk",
}
_PARTS = {"sample": {"law", "seed", "n_samples"}, "risk": {"beta", "trial", "trials", "violated", "eps"}}
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|


class Kept(NamedTuple):
    """How well bids were kept.

    Attributes:
        trial: what is counted, "hours" (periods, if they are shorter) or "days".
        trials: number of them.
        violated: how many were violated; with days the sum of their shares of violated periods.
        eps: upper limit of the mean probability at confidence 1 - beta.
    """

    trial: str
    trials: int
    violated: float
    eps: float


def count_violations(model: Model, episodes: Episodes, beta: float) -> Kept:
    """Count the violated periods of a rollout; see the module."""
    share = episodes.facts[:, :, FACTS.index("violated_share")]
    if model.instance.response == "population":
        trials, violated, trial = share.size, float(share.sum()), "days"
    else:
        periods = model.instance.periods
        trials, violated = share.size * periods, float(np.rint(share * periods).sum())
        trial = "hours" if periods == 24 else "periods"
    return Kept(trial, trials, violated, risk.adaptive(trials, violated, beta))


def policy_certificate(
    model: Model, seed: int, episodes: Episodes, policy: str, beta: float, sha256: str | None = None
) -> dict[str, Any]:
    """JSON certificate of a policy on the months of ``scenario.sample(instance, n, seed)``.

    Args:
        model: of the environment.
        seed: of the months.
        episodes: the policy's rollout on them.
        policy: its name.
        beta: confidence parameter of the limit.
        sha256: hash of a trained policy's bundle.
    """
    lot = model.instance
    kept = count_violations(model, episodes, beta)
    return {
        "format": FORMAT,
        "problem": "stackelberg",
        "kind": _KIND,
        "instance_sha256": lot.hash,
        "instance": lot.to_dict(),
        "sample": {"law": model.law.name, "seed": int(seed), "n_samples": len(episodes.actions)},
        "policy": policy,
        "policy_sha256": sha256,
        "actions": pack(episodes.actions),
        "mean_reward_usd": float(episodes.returns.mean() / lot.days),
        "risk": {"beta": beta, **kept._asdict()},
    }


def verify_policy(certificate: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "policy"; see baselines.certificate.check.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    given = _instance(certificate, instance)
    origin, claim = certificate["sample"], certificate["risk"]
    name, digest = certificate["policy"], certificate["policy_sha256"]
    expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
    n, seed, beta = origin["n_samples"], origin["seed"], claim["beta"]
    for field, value in (("n_samples", n), ("seed", seed)):
        expect(type(value) is int, f"sample.{field}", value, "a whole number")
    actions = unpack(certificate["actions"])
    shape = (n, given.days, given.periods + 1)  # before months are drawn: no forged number makes this slow
    expect(actions.shape == shape, "shape of actions", actions.shape, str(shape))
    expect(actions.dtype == np.float32, "dtype of actions", str(actions.dtype), "float32")
    try:
        model = Model(given, law(origin["law"]))
        episodes = rollout(model, sample(given, n, seed), Recorded(actions))
        kept = count_violations(model, episodes, beta)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    mean = float(episodes.returns.mean() / given.days)
    near("mean_reward_usd", certificate["mean_reward_usd"], mean, _MONEY)
    expect(claim["trial"] == kept.trial, "risk.trial", claim["trial"], kept.trial)
    ok = type(claim["trials"]) is int and claim["trials"] == kept.trials
    expect(ok, "risk.trials", claim["trials"], kept.trials)
    near("risk.violated", claim["violated"], kept.violated, 1e-9)
    near("risk.eps", claim["eps"], kept.eps, 1e-9)
    claims = (
        f"{name} earns {mean:.4f} $ a day on average over {n} months of {given.days} days of {origin['law']}",
        f"{kept.violated:g} of {kept.trials} {kept.trial} are violated; with confidence 1 - {beta:g} their mean "
        f"probability was at most {kept.eps:.4g}",
    )
    return Report(_KIND, claims, {"mean_reward_usd": mean, "violated": kept.violated, "eps": kept.eps})


def _instance(certificate: Data, instance: Instance | None) -> Instance:
    expect(certificate.get("kind") == _KIND, "kind", certificate.get("kind"), _KIND)
    for key in certificate:
        expect(key in _FIELDS, "field", key, ", ".join(sorted(_FIELDS)))
    for key in sorted(_FIELDS):
        expect(key in certificate, "field", f"{key} missing", ", ".join(sorted(_FIELDS)))
    for name, keys in _PARTS.items():
        part = certificate[name]
        expect(isinstance(part, Mapping) and set(part) == keys, name, part, f"exactly {', '.join(sorted(keys))}")
    try:
        written = Instance.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    said = certificate["instance_sha256"]
    expect(written.hash == said, "instance_sha256", said, written.hash)
    if instance is not None:
        found = getattr(instance, "hash", None)
        expect(found == written.hash, "instance", written.hash, f"the given one, {found}")
    return written
