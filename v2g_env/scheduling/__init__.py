"""Robust energy scheduling of a V2G network: one generator, wind, homes and aggregated cars."""

from v2g_env.scheduling.instance import Instance

__all__ = ["Instance"]
