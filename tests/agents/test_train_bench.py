"""The training benchmark: what it times adds up, and it leaves nothing behind."""

import pytest

pytest.importorskip("stable_baselines3")

from agents import train_bench
from agents.bench import PARTS
from agents.vec_env import NativeVecEnv
from v2g_env.core.validate import InvalidInputError


def test_times_of_a_training_add_up_and_the_classes_stay_as_they_were():
    usual = NativeVecEnv.step_wait
    speed = train_bench.measure("price_chain_ppo", 2)
    assert speed.steps == 2 * 24 * 256
    assert speed.environment_s > 0.0
    assert speed.recorder_s > 0.0
    assert speed.environment_s + speed.recorder_s < speed.processor_s
    share = 1.0 - (speed.environment_s + speed.recorder_s) / speed.processor_s
    assert speed.learner_share == pytest.approx(share)
    assert speed.steps_per_s == pytest.approx(speed.steps / speed.seconds)
    assert NativeVecEnv.step_wait is usual


def test_a_line_for_every_configuration(monkeypatch):
    known = train_bench.Speed(1000, 2.0, 1.0, 0.1, 0.05)
    monkeypatch.setattr(train_bench, "measure", lambda name: known)
    lines = list(PARTS["train"]())
    assert [line.partition(":")[0] for line in lines] == list(train_bench.CONFIGS)
    assert all("500 steps/s" in line and "85.0 % in the learner" in line for line in lines)


def test_executor_is_a_part_and_no_rollouts_are_refused():
    assert "executor" in PARTS
    with pytest.raises(InvalidInputError, match="rollouts"):
        train_bench.measure("price_chain_ppo", 0)
