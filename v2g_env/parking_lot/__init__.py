"""Parking lot: virtual energy storage from parked cars."""

from v2g_env.parking_lot.instance import Instance

__all__ = ["Instance"]
