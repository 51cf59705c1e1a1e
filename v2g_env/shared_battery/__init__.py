"""Shared battery: sizing it for a fleet of drivers, and giving it to them day by day."""

from v2g_env.shared_battery.instance import Instance

__all__ = ["Instance"]
