"""The law of the needs inside a certificate, so that a stranger without the logs can draw the same scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baselines.certificate import CertificateError, pack, unpack
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.needs import Needs
from v2g_env.shared_battery.scenario import Law, fitting, law, law_of

__all__ = ["law_data", "law_from"]

_FIELDS = {"name", "sha256", "bin_kwh", "idle", "share"}


def law_data(source: Law) -> dict[str, Any] | None:
    """JSON data of a law: None for the generator, which the instance determines, else its histograms.

    Raises:
        ValueError: for a law that is neither.
    """
    if source.name == "generator":
        return None
    if source.name != law_of(source.needs).name:
        raise ValueError(f"law = {source.name!r}; allowed: generator, or one made by scenario.law_of")
    needs = source.needs
    return {
        "name": needs.name,
        "sha256": needs.sha256,
        "bin_kwh": float(needs.bin_kwh),
        "idle": pack(needs.idle),
        "share": pack(needs.share),
    }


def law_from(data: Mapping[str, Any] | None, instance: Instance) -> Law:
    """Inverse of ``law_data``: the generator of the instance for None.

    Raises:
        CertificateError: for data that are no histograms, others than the fingerprint's, or of too many or few drivers.
    """
    if data is None:
        return law(instance)
    if not (isinstance(data, Mapping) and set(data) == _FIELDS):
        raise CertificateError(f"needs = {data!r:.200}; allowed: null, or exactly {', '.join(sorted(_FIELDS))}")
    idle, share = unpack(data["idle"]), unpack(data["share"])
    for field, values in (("idle", idle), ("share", share)):
        if values.dtype.str != "<f8":
            raise CertificateError(f"dtype of needs.{field} = {values.dtype.str}; allowed: <f8")
    try:
        needs = Needs(data["name"], data["bin_kwh"], idle, share)
        if needs.sha256 != data["sha256"]:
            raise CertificateError(f"needs.sha256 = {data['sha256']!r:.80}; allowed: {needs.sha256}")
        return fitting(instance, law_of(needs))
    except InvalidInputError as error:
        raise CertificateError(f"needs: {error}") from None
