"""Sizes of the study of certified learning, the trained agents it takes or trains, and one record per policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.bundle import Bundle, load_bundle
from agents.models import model_path, models
from baselines import risk
from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.core.validate import array, number, require
from v2g_env.metrics import mean_interval
from v2g_env.parking_lot.instance import Instance as Lot
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE
from v2g_env.parking_lot.model import Model as LotModel
from v2g_env.rollout import rollout
from v2g_env.scheduling.instance import Instance as Network
from v2g_env.scheduling.model import Model as NetworkModel

__all__ = ["AGENTS", "INTERVAL", "Kept", "StudyConfig", "World", "kept_record"]

AGENTS = (
    "parking_lot_ppo",
    "parking_lot_residual_ppo",
    "parking_lot_lagrangian_ppo",
    "scheduling_ppo",
    "scheduling_imitation_ppo",
)
INTERVAL = 1e-3  # 1 - confidence of the two-sided intervals of observed frequencies


@dataclass(frozen=True)
class StudyConfig:
    """Sizes of the study; the defaults take less than eight minutes on two cores where trained models are there.

    Attributes:
        caps_days: days that shape the parking lot's caps.
        tuning_days: days on which the lot's levels are certified, for each kind of shield.
        fresh_days: days of the lot on which everything is observed.
        redraws: redraws of every real day of another law.
        transport: days of each law in an optimal-transport distance.
        radii: R in chargers of the boxes that are carried to other laws.
        promises: limits on the probability of a violated day of the lot.
        network_days: days on which the network's levels are certified, and as many fresh ones.
        network_promises: limits on the probability of a violated day of the network.
        plan_days: days that tune a policy which solves a program each day, and as many of the network's fresh ones.
        plan_promise: limit for these.
        control_days: fresh days of predictive control on the network.
        agent_steps: steps of training of each of AGENTS where no trained model is there.
        lessons: episodes that predictive control of the network plays for a clone trained here.
        clone_lessons: episodes that predictive control of the lot plays for the clones of the learning curves.
        curve_steps, curve_points, curve_seeds: steps, evaluated policies and seeds of the learning curves.
        board_days: days that the curves are scored on.
        beta: confidence parameter of every certificate.
        seed: of the first draw; the others follow it.
    """

    caps_days: int = 20_000
    tuning_days: int = 5000
    fresh_days: int = 5000
    redraws: int = 20
    transport: int = 480
    radii: tuple[float, ...] = (8.0, 12.0)
    promises: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2)
    network_days: int = 800
    network_promises: tuple[float, ...] = (0.03, 0.1, 0.2)
    plan_days: int = 150
    plan_promise: float = 0.2
    control_days: int = 40
    agent_steps: tuple[int, ...] = (1_200_000, 600_000, 1_000_000, 614_400, 368_640)
    lessons: int = 300
    clone_lessons: int = 2000
    curve_steps: int = 106_496
    curve_points: int = 8
    curve_seeds: int = 3
    board_days: int = 500
    beta: float = 1e-5
    seed: int = 60

    def __post_init__(self) -> None:
        """Check every field."""
        for each in fields(self):
            if each.type == "int":
                low = 0 if each.name == "seed" else 1
                number(each.name, getattr(self, each.name), low, 10**8, integer=True)
        for name in ("promises", "network_promises"):
            values = array(name, getattr(self, name), (None,), 0.0, 1.0)
            grows = len(values) > 0 and bool((np.diff(values) > 0.0).all())
            require(grows, name, values.tolist(), "growing numbers")
        array("radii", self.radii, (None,), 0.0, 1e6)
        require(len(self.radii) > 0 and min(self.radii) > 0.0, "radii", self.radii, "positive numbers")
        for name in ("plan_days", "control_days"):
            number(name, getattr(self, name), 1, self.network_days, integer=True)
        number("plan_promise", self.plan_promise, 0.0, 1.0, open_low=True, open_high=True)
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        require(len(self.agent_steps) == len(AGENTS), "agent_steps", self.agent_steps, f"{len(AGENTS)} numbers")
        for steps in self.agent_steps:
            number("agent_steps", steps, 1, 10**9, integer=True)

    @classmethod
    def quick(cls) -> StudyConfig:
        """Small sizes, a minute; learning curves are too short to say much."""
        return cls(
            caps_days=5000,
            tuning_days=1500,
            fresh_days=1000,
            redraws=5,
            transport=120,
            promises=(0.05, 0.2),
            network_days=150,
            network_promises=(0.1, 0.2),
            plan_days=60,
            plan_promise=0.3,
            control_days=8,
            agent_steps=(332_800, 133_120, 332_800, 122_880, 61_440),
            lessons=20,
            clone_lessons=500,
            curve_steps=26_624,
            curve_points=4,
            curve_seeds=2,
            board_days=100,
        )


@dataclass(frozen=True)
class Kept:
    """A policy on fresh days: what it earned, what it violated, and what had been promised.

    Attributes:
        problem: "parking lot" or "scheduling".
        policy: its name.
        shield: what stands between policy and environment, "none" for nothing.
        promised: certified limit on the probability of a violated day; None without one.
        level: of the shield; None without one.
        days, violated: fresh days, and those on which something was violated.
        mean_usd, half_usd: mean return and half its 95 % interval [$/day].
        paired_usd, paired_half_usd: mean return minus that of the plain PPO on the same days, and half its interval.
        beta: confidence parameter of ``limit``.
    """

    problem: str
    policy: str
    shield: str
    promised: float | None
    level: int | None
    days: int
    violated: int
    mean_usd: float
    half_usd: float
    paired_usd: float
    paired_half_usd: float
    beta: float

    @property
    def frequency(self) -> float:
        """Share of violated days."""
        return self.violated / self.days

    @property
    def limit(self) -> float:
        """Upper limit on the probability of a violated day, from these days (confidence 1 - beta)."""
        return float(risk.hold_out(self.days, self.violated, self.beta))

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided Clopper-Pearson interval of the probability of a violated day, confidence 1 - INTERVAL."""
        each = INTERVAL / 2.0
        low = 1.0 - float(risk.hold_out(self.days, self.days - self.violated, each))
        return low, float(risk.hold_out(self.days, self.violated, each))

    def row(self) -> dict[str, Any]:
        """One line of a table."""
        return {
            "policy": self.policy,
            "shield": self.shield,
            "level": "" if self.level is None else self.level,
            "promised": "" if self.promised is None else self.promised,
            "violated": self.frequency,
            "limit": self.limit,
            "days": self.days,
            "earned_usd": self.mean_usd,
            "± [$]": self.half_usd,
            "minus PPO [$]": self.paired_usd,
            "± of that [$]": self.paired_half_usd,
        }


def kept_record(
    world: World, model: Any, days: Any, policy: Policy, problem: str, name: str, shield: str, promised: float | None
) -> Kept:
    """Roll a policy out on fresh days and write down what happened.

    The first policy of a problem, the plain PPO, is the one that the others are compared with, on the first of its days
    where they get fewer.

    Args:
        world: of the study.
        model: of the environment, or showing the policy's own plan.
        days: n drawn days, all or the first of those that the problem's policies share.
        policy: behind its shield, if it has one.
        problem: as in Kept.
        name: the policy's.
        shield: as in Kept.
        promised: as in Kept.
    """
    episodes = rollout(model, days, policy)
    returns = episodes.returns
    reference = world.references.setdefault(problem, returns)
    money, apart = mean_interval(returns), mean_interval(returns - reference[: len(returns)])
    guarded = isinstance(policy, Shielded)
    return Kept(
        problem,
        name,
        shield,
        promised,
        policy.level if guarded else None,  # type: ignore[attr-defined]
        len(returns),
        int((episodes.excess > VIOLATION_TOLERANCE).sum()),
        money.mean,
        (money.high - money.low) / 2.0,
        apart.mean,
        (apart.high - apart.low) / 2.0,
        world.config.beta,
    )


class World:
    """What the sections share: agents, models, and where results go.

    Args:
        config: sizes.
        out: results folder; agents that are trained here have their folders below ``agents``.
        say: receives a line per training.
    """

    def __init__(self, config: StudyConfig, out: Path, say: Callable[[str], None]) -> None:
        self.config, self.out, self.say = config, Path(out), say
        self.kept: list[Kept] = []  # of all sections so far
        self.references: dict[str, NDArray[np.float64]] = {}  # returns of the plain PPO, by problem
        self._agents: dict[str, Bundle] = {}

    @cached_property
    def lot(self) -> LotModel:
        """Model of the default parking lot."""
        return LotModel(Lot())

    @cached_property
    def network(self) -> NetworkModel:
        """Model of the default network."""
        return NetworkModel(Network())

    @property
    def trained_here(self) -> list[str]:
        """Agents, among those asked for so far, that did not come with the package."""
        return [name for name in self._agents if name not in models()]

    def agent(self, name: str) -> Bundle:
        """One of AGENTS: the model that comes with the package, else one trained here, or taken up from there."""
        if name not in self._agents:
            self._agents[name] = load_bundle(model_path(name) if name in models() else self._trained(name))
        return self._agents[name]

    def _trained(self, name: str) -> Path:
        from agents.config import load
        from agents.sb3 import train

        steps = self.config.agent_steps[AGENTS.index(name)]
        settings = load(name).replace(total_steps=steps)
        lesson = settings.imitation
        if lesson is not None:
            few, wait = min(lesson.episodes, self.config.lessons), min(lesson.critic_steps, steps // 4)
            settings = settings.replace(imitation=replace(lesson, episodes=few, critic_steps=wait))
        folder = self.out / "agents" / f"{name}-{settings.hash[:12]}-{settings.seed}"
        self.say(f"training {name} ({steps} steps) in {folder}")
        done = train(settings, folder, progress=False)
        if done.reason == "interrupted":
            raise KeyboardInterrupt
        require(done.finished, f"training of {name}", done.message, "finite numbers")
        return done.bundle
