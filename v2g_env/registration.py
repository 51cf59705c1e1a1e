"""The tables of all environments; importing v2g_env registers those of one agent."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium

__all__ = ["ENVIRONMENTS", "PARALLEL", "Entry", "ParallelEntry", "register_all"]


class Entry(NamedTuple):
    """Where an environment's classes are; loaded only when it is made."""

    id: str
    problem: str
    single: str
    vector: str


ENVIRONMENTS = (
    Entry(
        "V2G/ParkingLot-v0",
        "parking_lot",
        "v2g_env.parking_lot.env:ParkingLotEnv",
        "v2g_env.parking_lot.env:ParkingLotVectorEnv",
    ),
    Entry(
        "V2G/ParkingLotBays-v0",
        "parking_lot",
        "v2g_env.parking_lot.env:ParkingLotBaysEnv",
        "v2g_env.parking_lot.env:ParkingLotBaysVectorEnv",
    ),
    Entry(
        "V2G/Stackelberg-v0",
        "stackelberg",
        "v2g_env.stackelberg.env:StackelbergEnv",
        "v2g_env.stackelberg.env:StackelbergVectorEnv",
    ),
    Entry(
        "V2G/SharedBatterySizing-v0",
        "shared_battery",
        "v2g_env.shared_battery.env:SharedBatterySizingEnv",
        "v2g_env.shared_battery.env:SharedBatterySizingVectorEnv",
    ),
    Entry(
        "V2G/SharedBatteryAllocation-v0",
        "shared_battery",
        "v2g_env.shared_battery.env:SharedBatteryAllocationEnv",
        "v2g_env.shared_battery.env:SharedBatteryAllocationVectorEnv",
    ),
    Entry(
        "V2G/SharedBatteryAllocationPartial-v0",
        "shared_battery",
        "v2g_env.shared_battery.env:SharedBatteryAllocationPartialEnv",
        "v2g_env.shared_battery.env:SharedBatteryAllocationPartialVectorEnv",
    ),
    Entry(
        "V2G/Scheduling-v0",
        "scheduling",
        "v2g_env.scheduling.env:SchedulingEnv",
        "v2g_env.scheduling.env:SchedulingVectorEnv",
    ),
    Entry(
        "V2G/PriceChain-v0",
        "price_chain",
        "v2g_env.price_chain.env:PriceChainEnv",
        "v2g_env.price_chain.env:PriceChainVectorEnv",
    ),
)


class ParallelEntry(NamedTuple):
    """Where an environment of several parties and its model are; loaded only when it is made, see parallel_shell."""

    name: str
    env: str
    model: str


PARALLEL = (
    ParallelEntry(
        "shared_battery_parallel_v0",
        "v2g_env.shared_battery.parallel_env:SharedBatteryParallelEnv",
        "v2g_env.shared_battery.party:SharedBatteryParties",
    ),
    ParallelEntry(
        "stackelberg_parallel_v0",
        "v2g_env.stackelberg.parallel_env:StackelbergParallelEnv",
        "v2g_env.stackelberg.party:StackelbergParties",
    ),
    ParallelEntry(
        "parking_lot_parallel_v0",
        "v2g_env.parking_lot.parallel_env:ParkingLotParallelEnv",
        "v2g_env.parking_lot.party:ParkingLotParties",
    ),
    ParallelEntry(
        "scheduling_parallel_v0",
        "v2g_env.scheduling.parallel_env:SchedulingParallelEnv",
        "v2g_env.scheduling.party:SchedulingParties",
    ),
)


def register_all() -> None:
    """Register every entry with gymnasium; safe to call twice."""
    for entry in ENVIRONMENTS:
        if entry.id not in gymnasium.registry:
            gymnasium.register(entry.id, entry_point=entry.single, vector_entry_point=entry.vector)
