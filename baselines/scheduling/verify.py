"""Checks of the scheduling problem's certificates: no solver, everything recomputed from data and multipliers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from baselines.certificate import CertificateError, Report
from baselines.scheduling import (
    savings_game,
    verify_affine,
    verify_conic,
    verify_days,
    verify_linear,
    verify_penalty,
    verify_shield,
)
from baselines.scheduling.feeder_day import FeederDay
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance

__all__ = ["OWNERS", "verify"]

OWNERS = dict.fromkeys(verify_conic.KINDS, FeederDay)  # kinds that speak of something else than an Instance

_CHECKS: dict[str, Callable[[Mapping[str, Any], Instance], Report]] = {
    "schedule": verify_linear.check_schedule,
    "adjustable schedule": verify_affine.check_adjustable,
    verify_days.BOUND_KIND: verify_days.check_bounds,
    verify_days.POLICY_KIND: verify_days.check_policy,
    verify_penalty.PENALISED_KIND: verify_penalty.check_penalised,
    verify_shield.KIND: verify_shield.check_margin,
    savings_game.KIND: savings_game.check_savings_game,
}


def verify(certificate: Mapping[str, Any], instance: Any) -> Report:
    """Check one certificate; see baselines.certificate.check."""
    kind = str(certificate.get("kind"))
    if kind in OWNERS:
        return verify_conic.verify(certificate, instance)
    if kind not in _CHECKS:
        raise CertificateError(f"kind = {kind!r:.80}; allowed: {', '.join([*_CHECKS, *OWNERS])}")
    try:
        written = Instance.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    for claimed in (certificate["instance_sha256"], written.hash if instance is None else instance.hash):
        if claimed != written.hash:
            raise CertificateError(f"instance = {written.hash}; allowed: {claimed!r:.80}")
    return _CHECKS[kind](certificate, written)
