"""Trained policies behind a certified shield: ``shield.json`` beside a bundle, and the wrapper that fails closed.

The file is plain JSON made from a checked certificate (baselines/parking_lot/verify_shield.py,
baselines/scheduling/verify_shield.py) and names the instance, and for a margin tuned for one policy that policy's
bundle. What does not fit together is never used: the cautious policy of the problem acts instead and is counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baselines.certificate import CertificateError, check, load, save
from baselines.parking_lot.shield import LotShield, box_shield
from baselines.scheduling.shield import ReserveShield
from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model as LotModel
from v2g_env.scheduling.model import Model as NetworkModel

__all__ = ["FORMAT", "SHIELD", "Guarded", "guard", "load_shield", "save_shield", "shield_data"]

FORMAT = "v2g-env shield 1"
SHIELD = "shield.json"
_FIELDS = {
    *("format", "problem", "instance_sha256", "policy_sha256", "plan_kwh", "law"),
    *("shield", "level", "eps", "beta", "certificate_sha256"),
}


class Guarded(Shielded):
    """A policy behind a shield from a file; see baselines.shielded.Shielded for ``predict``, fallbacks and changed.

    Attributes:
        refused: why the shield is not used, so that the cautious policy always acts; None if it is.
        eps: what the shield promises: limit on the probability of a violated day; None if it is refused.
    """

    refused: str | None = None
    eps: float | None = None


def shield_data(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Content of shield.json for a certificate of kind "box shield" or "margin shield", which is checked first.

    Raises:
        CertificateError: if the certificate does not hold.
        InvalidInputError: for another kind, or a margin tuned for a policy without a hash: nothing could be compared.
    """
    report = check(certificate)
    require(report.kind in ("box shield", "margin shield"), "kind", report.kind, "box shield, margin shield")
    agent = certificate.get("agent")
    digest = None if agent is None else agent["sha256"]
    require(agent is None or digest is not None, "agent.sha256", digest, "the hash of the policy's bundle")
    if report.kind == "box shield":
        model = LotModel(Instance.from_dict(certificate["instance"]))
        shield, level = box_shield(model, certificate["top_kwh"]).to_dict(), 1
    else:
        shield, level = dict(certificate["shield"]), certificate["level"]
    text = json.dumps(certificate, sort_keys=True, allow_nan=False)
    return {
        "format": FORMAT,
        "problem": certificate["problem"],
        "instance_sha256": certificate["instance_sha256"],
        "policy_sha256": digest,
        "plan_kwh": None if agent is None else certificate.get("plan_kwh"),
        "law": certificate["sample"]["law"],
        "shield": shield,
        "level": level,
        "eps": report.values["eps"],
        "beta": certificate["risk"]["beta"],
        "certificate_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def save_shield(data: Mapping[str, Any], path: str | Path) -> None:
    """Write shield.json, whole or not at all; ``path`` is the file."""
    save(data, path)


def load_shield(path: str | Path) -> dict[str, Any]:
    """Read shield.json; what it says is examined by ``guard``.

    Raises:
        CertificateError: for an empty, truncated or foreign file.
    """
    return load(path)


def guard(policy: Policy, data: Mapping[str, Any] | str | Path, model: LotModel | NetworkModel) -> Guarded:
    """Put a policy behind the shield of a file, or behind the problem's cautious policy if anything does not fit.

    Args:
        policy: a bundle (its ``hash`` is compared where the shield was tuned for one policy) or anything with
            ``predict``.
        data: content of shield.json, or its path.
        model: of the environment that the policy acts in.

    Raises:
        InvalidInputError: for a model that no shield is made for.
    """
    cautious = _cautious(model)
    try:
        content = load_shield(data) if isinstance(data, (str, Path)) else data
        shield, level = _read(content, policy, model)
        found = Guarded(policy, shield, level)
        found.eps = float(content["eps"])
    except (CertificateError, InvalidInputError, OSError) as error:
        found = Guarded(policy, cautious, None)
        found.refused = str(error)
    return found


def _cautious(model: Any) -> LotShield | ReserveShield:
    if isinstance(model, LotModel):
        return box_shield(model, model.plan_kwh * 0.0)
    require(isinstance(model, NetworkModel), "model", type(model), "of V2G/ParkingLot-v0 or V2G/Scheduling-v0")
    return ReserveShield(model)


def _read(content: Any, policy: Policy, model: LotModel | NetworkModel) -> tuple[LotShield | ReserveShield, int]:
    """The shield and level that the content means; InvalidInputError for anything else than exactly that."""
    ok = isinstance(content, Mapping) and set(content) == _FIELDS
    require(ok, "shield file", sorted(content) if isinstance(content, Mapping) else content, ", ".join(sorted(_FIELDS)))
    require(content["format"] == FORMAT, "format", content["format"], FORMAT)
    problem = "parking_lot" if isinstance(model, LotModel) else "scheduling"
    require(content["problem"] == problem, "problem", content["problem"], problem)
    hashes = (content["instance_sha256"], model.instance.hash)
    require(hashes[0] == hashes[1], "instance_sha256", hashes[0], f"the model's {hashes[1]}")
    for name in ("eps", "beta"):
        number(name, content[name], 0.0, 1.0)
    number("level", content["level"], 0, 10**6, integer=True)
    digest = content["policy_sha256"]
    if digest is not None:
        mine = getattr(policy, "hash", None)
        require(digest == mine, "policy_sha256", digest, f"the policy's {mine}")
        plan = content["plan_kwh"]
        same = plan is None or (isinstance(model, LotModel) and plan == model.plan_kwh.tolist())
        require(same, "plan_kwh", plan, "the plan that the model shows")
    family: type[LotShield] | type[ReserveShield] = LotShield if problem == "parking_lot" else ReserveShield
    shield = family.from_dict(model, content["shield"])  # type: ignore[arg-type]
    number("level", content["level"], 0, shield.levels - 1, integer=True)
    return shield, int(content["level"])
