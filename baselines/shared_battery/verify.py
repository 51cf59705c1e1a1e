"""Checks of the shared battery's certificates: no solver, everything recomputed from seeds and multipliers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from baselines.certificate import CertificateError, Report
from baselines.shared_battery import sizing_game, verify_cost_game, verify_penalty, verify_sizes, verify_week
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance

__all__ = ["verify"]

_CHECKS: dict[str, Callable[[Mapping[str, Any], Instance], Report]] = {
    verify_week.HINDSIGHT_KIND: verify_week.check_hindsight,
    verify_week.POLICY_KIND: verify_week.check_policy,
    **verify_penalty.CHECKS,
    sizing_game.KIND: sizing_game.check_sizing,
    verify_cost_game.KIND: verify_cost_game.check_cost_game,
    **verify_sizes.CHECKS,
}


def verify(certificate: Mapping[str, Any], instance: Instance | None) -> Report:
    """Check one certificate; see baselines.certificate.check."""
    kind = str(certificate.get("kind"))
    if kind not in _CHECKS:
        raise CertificateError(f"kind = {kind!r:.80}; allowed: {', '.join(_CHECKS)}")
    try:
        written = Instance.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    for claimed in (certificate["instance_sha256"], written.hash if instance is None else instance.hash):
        if claimed != written.hash:
            raise CertificateError(f"instance = {written.hash}; allowed: {claimed!r:.80}")
    return _CHECKS[kind](certificate, written)
