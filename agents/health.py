"""Whether a training is still made of numbers: cheap looks at parameters and losses."""

from __future__ import annotations

from typing import Any

__all__ = ["DivergedError", "trouble"]


class DivergedError(ArithmeticError):
    """Something in a training is not finite; the text says what, and where it was seen first."""


def trouble(model: Any) -> str | None:
    """What is not finite among a model's parameters and last losses; None if all is well."""
    import torch

    for name, value in model.policy.named_parameters():
        if not bool(torch.isfinite(value).all()):
            return f"parameter {name}"
    for name in ("log_ent_coef", "ent_coef_tensor"):
        value = getattr(model, name, None)
        if value is not None and not bool(torch.isfinite(value).all()):
            return f"parameter {name}"
    for name, value in model.logger.name_to_value.items():
        # other figures, such as the explained variance, may be undefined
        if name.startswith("train/") and name.endswith("loss") and not abs(float(value)) < float("inf"):
            return f"{name.removeprefix('train/')} = {float(value)}"
    return None
