"""A trained policy's own certificate: what it earns, how far from the proven bound, how often it violates.

``certificate.json`` lies in the bundle's folder and names the bundle's hash. Its check needs NumPy alone: it draws the
scenarios again, lets the network act on them, compares what it does with the recorded actions, and hands bound and
policy to baselines.certificate.check, which recompute them from duals and recorded actions without a solver.

Sums in single precision differ in their last digit between machines, which can turn a choice between two equally good
ones: actions have to agree within 1e-3, and at most 1 of 1000 choices may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.boards import board_of, default_periods, world_of
from agents.bundle import Bundle, load_bundle
from agents.compare import Contestant, Result, TestSet, evaluate
from baselines.certificate import CertificateError, check, load, pack, save, unpack
from baselines.checking import expect, near, whole_number
from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import mean_interval, upper_limit
from v2g_env.rollout import rollout

__all__ = ["CERTIFICATE", "FORMAT", "bundle_certificate", "certify_bundle", "check_bundle"]

CERTIFICATE = "certificate.json"
FORMAT = "v2g-env bundle certificate 1"
_KEYS = {"format", "bundle_sha256", "env_id", "law", "seed", "periods", "beta", "policy", "bound", "gap_usd", "summary"}
_SUMMARY = {"mean_usd", "bound_usd", "gap_usd", "gap_limit_usd", "gap_percent", "frequency", "limit"}
_ACTIONS, _CHOICES, _MONEY = 1e-3, 1e-3, 1e-6
_MOST_PERIODS = 20_000

Data = dict[str, Any]


def bundle_certificate(
    bundle: Bundle, name: str, test: TestSet, result: Result, bound: Data | None, policy: Data
) -> Data:
    """The certificate of a bundle that was evaluated on a board, as JSON data.

    Args:
        bundle: the policy.
        name: law of the scenarios.
        test: the board's scenarios.
        result: what the policy did there.
        bound: certificate of the bound, if there is one.
        policy: certificate of the policy.
    """
    row = result.row
    return {
        "format": FORMAT,
        "bundle_sha256": bundle.hash,
        "env_id": bundle.env_id,
        "law": name,
        "seed": test.seed,
        "periods": row.days,
        "beta": test.beta,
        "policy": policy,
        "bound": bound,
        "gap_usd": pack(result.gap),
        "summary": {
            "mean_usd": row.mean_usd,
            "bound_usd": mean_interval(test.bound, test.units).mean,
            "gap_usd": row.gap_usd,
            "gap_limit_usd": row.gap_limit_usd,
            "gap_percent": row.gap_percent,
            "frequency": row.frequency,
            "limit": row.limit,
        },
    }


def certify_bundle(
    path: str | Path,
    law: str = "generator",
    periods: int | None = None,
    seed: int = 3,
    beta: float = 1e-5,
    say: Callable[[str], None] = lambda text: None,
) -> Data:
    """Evaluate a bundle on fresh scenarios and write its certificate into its folder.

    Args:
        path: the bundle's folder.
        law: of the scenarios.
        periods: days, weeks or seasons; None: as many as an evaluation has.
        seed: of the scenarios.
        beta: confidence parameter of the limit on violations.
        say: receives a line per stage.

    Raises:
        InvalidInputError: for an environment or law whose policies have no certificate.
    """
    bundle = load_bundle(path)
    made = bundle.env_kwargs
    count = default_periods(bundle.env_id) if periods is None else periods
    board = board_of(bundle.env_id, made["instance"], law, count, seed, beta, made.get("plan_kwh"), say)
    if board.certify is None:
        raise InvalidInputError(f"law = {law!r}; allowed: one whose policies can be certified")
    contestant = Contestant(Path(path).name, "agent", lambda _: bundle, sha256=bundle.hash)
    result = evaluate(contestant, board.test)
    policy = board.certify(contestant, result)
    found = bundle_certificate(bundle, law, board.test, result, board.bound, policy)
    save(found, Path(path) / CERTIFICATE)
    return found


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
    folder = Path(path)
    bundle = load_bundle(folder)
    file = folder / CERTIFICATE
    if not file.is_file():
        raise CertificateError(f"{file} = missing; allowed: a certificate, see v2g evaluate --certify")
    data = load(file)
    expect(data.get("format") == FORMAT, "format", data.get("format"), FORMAT)
    expect(set(data) == _KEYS, "fields", sorted(data), ", ".join(sorted(_KEYS)))
    expect(data["bundle_sha256"] == bundle.hash, "bundle_sha256", data["bundle_sha256"], bundle.hash)
    expect(data["env_id"] == bundle.env_id, "env_id", data["env_id"], bundle.env_id)
    policy, bound = data["policy"], data["bound"]
    expect(isinstance(policy, Mapping), "policy", policy, "a certificate")
    expect(policy.get("policy_sha256") == bundle.hash, "policy_sha256", policy.get("policy_sha256"), bundle.hash)
    report = check(policy, bundle.model.instance)
    claims = [*report.claims, _acted(bundle, data)]
    if bound is not None:
        expect(isinstance(bound, Mapping), "bound", bound, "a certificate, or null")
        top = check(bound, bundle.model.instance)
        claims += [*top.claims, _gap(data, report.values, top.values)]
    return tuple(claims)


def _acted(bundle: Bundle, data: Data) -> str:
    """Let the network act on the scenarios, led along the recorded actions where there are some."""
    whole_number("periods", data["periods"], 1, _MOST_PERIODS)
    whole_number("seed", data["seed"], 0, 2**63 - 1)
    made = bundle.env_kwargs
    model, scenario = world_of(
        bundle.env_id, made["instance"], data["law"], data["periods"], data["seed"], made.get("plan_kwh")
    )
    policy = data["policy"]
    if "actions" not in policy:
        mean = float(rollout(model, scenario, bundle).returns.mean())
        claimed = float(policy["sample"]["mean_return_usd"])
        expect(abs(mean - claimed) <= 1e-3 * (1.0 + abs(mean)), "mean_return_usd", claimed, f"{mean:.6f} within 1e-3")
        return f"the bundle's network earns {mean:.4f} $ on average on these scenarios"
    led = _Led(bundle, unpack(policy["actions"]))
    rollout(model, scenario, led)
    if model.choices is None:
        expect(led.worst <= _ACTIONS, "actions", f"{led.worst:g} off", f"the network's within {_ACTIONS:g}")
    else:
        share = led.different / led.actions.size
        expect(share <= _CHOICES, "actions", f"{share:g} differ", f"at most {_CHOICES:g} of the network's choices")
    return "the recorded actions are those that the bundle's network chooses from its observations"


class _Led:
    """Takes recorded actions, and compares them with what the bundle would do."""

    def __init__(self, bundle: Bundle, actions: NDArray[Any]) -> None:
        self.bundle, self.actions = bundle, actions
        self.worst, self.different = 0.0, 0

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], tuple[Any, ...]]:
        """The recorded actions of the next step."""
        step, memory = state or (0, None)
        wanted, memory = self.bundle.predict(observation, memory, episode_start, True)
        recorded = self.actions[:, step]
        expect(recorded.shape == wanted.shape, "shape of actions", recorded.shape, wanted.shape)
        self.worst = max(self.worst, float(np.abs(recorded - wanted).max()))
        self.different += int((recorded != wanted).sum())
        return recorded, (step + 1, memory)


def _gap(data: Data, policy: Mapping[str, float], bound: Mapping[str, float]) -> str:
    """Compare the gaps with what both certificates establish."""
    gaps, summary = unpack(data["gap_usd"]), data["summary"]
    expect(isinstance(summary, Mapping) and set(summary) == _SUMMARY, "summary", summary, ", ".join(sorted(_SUMMARY)))
    expect(gaps.ndim == 1 and len(gaps) > 0 and bool(np.isfinite(gaps).all()), "gap_usd", gaps, "finite numbers")
    near("summary.gap_usd", summary["gap_usd"], float(mean_interval(gaps).mean), _MONEY)
    near("summary.bound_usd", summary["bound_usd"], bound["mean_bound_usd"], _MONEY)
    near("summary.mean_usd", summary["mean_usd"], policy["mean_return_usd"], _MONEY)
    expect(
        summary["gap_limit_usd"] >= upper_limit(gaps) - _MONEY * (1.0 + abs(summary["gap_limit_usd"])),
        "summary.gap_limit_usd",
        summary["gap_limit_usd"],
        f"at least {upper_limit(gaps):.6f}",
    )
    return (
        f"certified gap {summary['gap_usd']:.4f} $ a period, {summary['gap_percent']:.2f} % of the bound, at most "
        f"{summary['gap_limit_usd']:.4f} $ (95 %, asymptotic)"
    )
