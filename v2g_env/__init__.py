"""Gymnasium environments for vehicle-to-grid in which every policy is measured against a certified optimum."""

from v2g_env.registration import ENVIRONMENTS, register_all

__all__ = ["ENVIRONMENTS", "__version__"]
__version__ = "0.1.0"

register_all()
