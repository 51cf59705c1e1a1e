"""What all certificates of the price chain begin with, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, pack, unpack
from baselines.checking import expect
from baselines.price_chain.sweeps import check_plan
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Law

__all__ = ["COMMON", "head", "instance_of", "law_data", "law_from", "plan_from"]

Data = Mapping[str, Any]

COMMON = {"format", "problem", "kind", "instance_sha256", "instance"}


def head(model: Model, kind: str) -> dict[str, Any]:
    """The fields of ``COMMON``."""
    return {
        "format": FORMAT,
        "problem": "price_chain",
        "kind": kind,
        "instance_sha256": model.instance.hash,
        "instance": model.instance.to_dict(),
    }


def instance_of(data: Data, instance: Instance | None, fields: set[str]) -> Instance:
    """The instance that a certificate speaks of, after its words about it have been compared.

    Args:
        data: the certificate.
        instance: the one it must belong to, or None.
        fields: of its kind.

    Raises:
        CertificateError: for other fields or another instance.
    """
    expect(set(data) == fields, "fields", sorted(data), ", ".join(sorted(fields)))
    expect(data["format"] == FORMAT, "format", data["format"], FORMAT)
    expect(data["problem"] == "price_chain", "problem", data["problem"], "price_chain")
    expect(isinstance(data["instance"], Mapping), "instance", data["instance"], "a JSON object")
    try:
        written = Instance.from_dict(data["instance"])
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    expect(written.hash == data["instance_sha256"], "instance_sha256", data["instance_sha256"], written.hash)
    if instance is not None:
        expect(instance.hash == written.hash, "instance", written.hash, f"the given one, {instance.hash}")
    return written


def law_data(law: Law) -> dict[str, Any] | None:
    """JSON data of a law: None for the instance's own chain, else its name and rows."""
    return None if law.name == "generator" else {"name": law.name, "rows": pack(law.rows)}


def law_from(data: Any) -> Law | str:
    """Inverse of ``law_data``."""
    if data is None:
        return "generator"
    expect(isinstance(data, Mapping) and set(data) == {"name", "rows"}, "law", data, "null, or name and rows")
    name = data["name"]
    ok = isinstance(name, str) and name not in ("", "generator")
    expect(ok, "law.name", name, "a name other than generator")
    return Law(name, unpack(data["rows"]))


def plan_from(data: Data, model: Model) -> NDArray[np.int32]:
    """The plan of a certificate; raises for one that does not fit the model."""
    plan = unpack(data["plan"])
    expect(plan.dtype.str == "<i4", "dtype of plan", plan.dtype.str, "<i4")
    return check_plan(model, plan)
