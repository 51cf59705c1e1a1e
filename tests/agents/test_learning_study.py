"""The study of certified learning, with agents of seconds: what is said of promises is what the days showed."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

pytest.importorskip("stable_baselines3")

import agents.config
import agents.learning_answers as answers
import agents.learning_curve_sections as curve_sections
import agents.learning_network_sections as network_sections
from agents.bundle import load_bundle
from agents.bundle_files import CONFIG
from agents.learning_answers import AGENTS, INTERVAL, Kept, World
from agents.learning_curve_sections import VARIANTS, _reached
from agents.learning_curves import CurvePoint
from agents.learning_lot_sections import LAWS
from agents.learning_promise_sections import promises
from agents.learning_study import StudyConfig, run_study
from baselines.certificate import check, load
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.scheduling.scenario import sample

PARTS = ("parking lot", "other laws", "scheduling", "promises", "learning curves")
TINY = StudyConfig(
    caps_days=500,
    tuning_days=300,
    fresh_days=200,
    redraws=1,
    transport=20,
    radii=(6.0, 12.0),
    promises=(0.1, 0.4),
    network_days=16,
    network_promises=(0.5, 0.7),
    plan_days=2,
    plan_promise=0.95,
    control_days=1,
    agent_steps=(1, 1, 1, 1, 1),
    lessons=1,
    clone_lessons=50,
    curve_steps=416,
    curve_points=2,
    curve_seeds=2,
    board_days=20,
    beta=1e-2,
)


def shrunk(name):
    """A shipped configuration with few episodes side by side and one pass."""
    config = USUAL(name)
    few = replace(config.hyperparameters, batch_size=8 * config.hyperparameters.n_steps, n_epochs=1, net_arch=(8,))
    return config.replace(num_envs=8, hyperparameters=few)


USUAL = agents.config.load


def written(out):
    """When every bundle below the folder of agents was written, by its hash."""
    return {load_bundle(path).hash: (path / CONFIG).stat().st_mtime_ns for path in out.glob("agents/*/bundle")}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    out, said = tmp_path_factory.mktemp("study"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "models", lambda: ())  # whatever came with the package is too good for this test
        patch.setattr(agents.config, "load", shrunk)
        patch.setattr(curve_sections, "load", shrunk)
        patch.setattr(network_sections, "_DEVIATIONS", (2.9, 2.0))
        patch.setattr(network_sections, "_PLAN_DEVIATIONS", (3.0,))
        sections = run_study(out, config=TINY, say=said.append)
        before = written(out)
        again = World(TINY, out, str)
        taken = {again.agent(name).hash for name in AGENTS}
        assert written(out) == before
    return {section.title: section for section in sections}, out, said, taken


def money(studied, problem):
    return studied[0][f"{problem}: money and violations"].rows


def test_all_parts_are_written_and_say_that_agents_were_trained_here(studied):
    sections, out, said, _ = studied
    assert [line for line in said if line.startswith("study: ")] == [f"study: {name}" for name in PARTS]
    page = (out / "report.html").read_text(encoding="utf-8")
    data = json.loads((out / "study.json").read_text(encoding="utf-8"))
    for title, section in sections.items():
        assert title in page
        assert len(data[section.slug]["rows"]) == len(section.rows) > 0
        with (out / f"{section.slug}.csv").open(encoding="utf-8") as stream:
            assert len(list(csv.DictReader(stream))) == len(section.rows)
    assert f"because no model of theirs came with the package: {', '.join(AGENTS)}." in page


def test_agents_are_trained_once_and_taken_from_the_folder_after_that(studied):
    _, out, said, taken = studied
    assert sum(line.startswith("training ") for line in said) == len(AGENTS)
    assert len(taken) == len(AGENTS)
    assert set(written(out)) == taken


def test_every_written_certificate_holds_and_promises_what_the_tables_say(studied):
    _, out, _, _ = studied
    found = {path.stem: check(load(path), Instance()).values["eps"] for path in (out / "certificates").glob("*.json")}
    assert set(found) == {
        *("plan-robust", "box", "caps-10-percent", "caps-40-percent", "box-radius-6", "box-radius-12"),
    }
    rows = money(studied, "Parking lot")
    (plan,) = (row["promised"] for row in rows if row["policy"] == "robust plan")
    (box,) = (row["promised"] for row in rows if row["shield"] == "box, any agent")
    assert (plan, box) == (found["plan-robust"], found["box"])
    caps = {row["promised"] for row in rows if row["shield"] == "caps, any agent"}
    assert caps == {found["caps-10-percent"], found["caps-40-percent"]}


def test_promises_are_at_most_those_asked_for_and_more_risk_reaches_no_lower_level(studied):
    for problem, wanted, shields in (
        ("Parking lot", TINY.promises, ("caps, any agent", "caps, tuned for this agent")),
        ("Scheduling", TINY.network_promises, ("reserve, tuned for this policy",)),
    ):
        rows = money(studied, problem)
        for shield in shields:
            for policy in {row["policy"] for row in rows if row["shield"] == shield} - {"day-ahead plan"}:
                own = [row for row in rows if (row["policy"], row["shield"]) == (policy, shield)]
                assert all(row["promised"] <= eps for row, eps in zip(own, wanted, strict=True))
                if shield != "reserve, tuned for this policy":  # the most profitable level may be a lower one
                    assert own[0]["level"] <= own[1]["level"]
    shared = {row["promised"]: set() for row in money(studied, "Parking lot") if row["shield"] == "caps, any agent"}
    for row in money(studied, "Parking lot"):
        if row["shield"] == "caps, any agent":
            shared[row["promised"]].add(row["level"])
    assert all(len(levels) == 1 for levels in shared.values())


def test_policies_are_compared_on_common_days(studied):
    for problem in ("Parking lot", "Scheduling"):
        first, *others = money(studied, problem)
        assert (first["policy"], first["shield"], first["minus PPO [$]"]) == ("PPO", "none", 0.0)
        for row in others:
            if row["days"] == first["days"]:
                assert row["minus PPO [$]"] == pytest.approx(row["earned_usd"] - first["earned_usd"], abs=1e-9)
    grid = World(TINY, ".", str).network
    few, more = (sample(grid.instance, grid.law, count, 7) for count in (2, 5))
    assert all(np.array_equal(a, b[:2]) for a, b in zip(few, more, strict=True))


def test_the_promise_table_has_every_promise_with_its_exact_interval(studied):
    made = [row for problem in ("Parking lot", "Scheduling") for row in money(studied, problem)]
    rows = studied[0]["Did the promises hold?"].rows
    assert [row["promised"] for row in rows] == [row["promised"] for row in made if row["promised"] != ""]
    for row in rows:
        count = round(row["observed"] * row["days"])
        assert binom.cdf(count, row["days"], row["to"]) == pytest.approx(INTERVAL / 2.0, rel=1e-6)
        if count:
            assert binom.sf(count - 1, row["days"], row["from"]) == pytest.approx(INTERVAL / 2.0, rel=1e-6)
        else:
            assert row["from"] == pytest.approx(0.0, abs=1e-12)
        assert row["kept"] == (row["observed"] <= row["promised"])
    assert "Observed above the promise: 0. Refuted" in studied[0]["Did the promises hold?"].text


def test_a_broken_promise_is_counted_as_broken():
    def kept(promised, violated):
        return Kept("parking lot", "PPO", "none", promised, None, 1000, violated, 1.0, 0.1, 0.0, 0.0, 1e-5)

    world = SimpleNamespace(kept=[kept(0.05, 20), kept(0.05, 60), kept(0.05, 200), kept(None, 900)], config=TINY)
    section = promises(world)
    assert [(row["kept"], row["refuted"]) for row in section.rows] == [(True, False), (False, False), (False, True)]
    assert "Observed above the promise: 2. " in section.text
    assert "lies above the promise): 1. Confirmed (it lies below): 1. Too few fresh days to tell: 1." in section.text


def test_the_bound_under_other_laws_is_the_boxes_promise_plus_distance_over_radius(studied):
    sections, out, _, _ = studied
    rows = sections["Parking lot: other laws"].rows
    assert [row["law"] for row in rows] == list(LAWS)
    for radius in (6, 12):
        eps = load(out / "certificates" / f"box-radius-{radius}.json")["risk"]["eps"]
        for row in rows:
            bound = row[f"box R = {radius}, bound"]
            assert bound == pytest.approx(min(1.0, eps + row["mu_chargers"] / radius))
            assert row[f"box R = {radius}, violated"] <= bound
    assert "above the bound in 0 of 14 cases" in sections["Parking lot: other laws"].text


def test_the_untrained_residual_agent_is_predictive_control_and_every_curve_begins_before_training(studied):
    rows = studied[0]["Learning curves"].rows
    starts = {row["training"]: row for row in rows if row["steps"] == 0}
    assert list(starts) == list(VARIANTS)
    assert f"Predictive control itself has a gap of {starts['residual']['gap [%]']:.2f} %." in (
        studied[0]["Learning curves"].text
    )
    assert starts["residual"]["from [%]"] == starts["residual"]["to [%]"]
    assert starts["clone"]["seconds"] > starts["residual"]["seconds"]  # it had lessons before
    for name in VARIANTS:
        steps = [row["steps"] for row in rows if row["training"] == name]
        assert steps == sorted(set(steps))
        assert len(steps) >= 3


def test_final_gaps_in_the_cost_table_are_the_ends_of_the_curves(studied):
    ends = {row["training"]: row["gap [%]"] for row in studied[0]["Learning curves"].rows}
    for row in studied[0]["What prior knowledge buys"].rows:
        assert row["final gap [%]"] == pytest.approx(ends[row["training"]])
        assert (row["better than scratch"] == "") == (row["training"] == "from scratch")


def test_a_level_counts_as_reached_when_more_than_half_of_the_seeds_came_there():
    def curve(*gaps):
        return tuple(CurvePoint(100 * k, k / 2.0, 0.0, gap, gap, gap, "0" * 64) for k, gap in enumerate(gaps))

    seeds = {"0": curve(30.0, 15.0, 8.0), "1": curve(30.0, 25.0, 12.0), "2": curve(30.0, 18.0, 18.0)}
    assert _reached(seeds, 20.0) == "100 steps, 0.5 s"
    assert _reached(seeds, 30.0) == "0 steps, 0.0 s"
    assert _reached(seeds, 12.0) == "200 steps, 1.0 s (2 of 3)"
    assert _reached(seeds, 10.0) == "– (1 of 3)"
    assert _reached(seeds, 5.0) == "–"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tuning_days": 0}, "tuning_days"),
        ({"promises": (0.2, 0.1)}, "promises"),
        ({"radii": (0.0,)}, "radii"),
        ({"plan_days": 801}, "plan_days"),
        ({"agent_steps": (1,)}, "agent_steps"),
        ({"beta": 1.0}, "beta"),
        ({"curve_seeds": True}, "curve_seeds"),
    ],
)
def test_a_bad_size_is_refused_by_name(changes, named):
    with pytest.raises(InvalidInputError, match=named):
        StudyConfig(**changes)


def test_an_instance_is_refused_because_agents_belong_to_the_default_one(tmp_path):
    with pytest.raises(InvalidInputError, match="instance"):
        run_study(tmp_path, Instance())


def test_sizes_of_the_quick_study_are_no_larger():
    full, quick = StudyConfig(), StudyConfig.quick()
    for name in ("tuning_days", "fresh_days", "network_days", "curve_steps", "curve_seeds"):
        assert getattr(quick, name) < getattr(full, name)
