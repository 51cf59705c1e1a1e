"""Submissions: what is refused, where functions and penalties come from, and the command."""

import argparse

import pytest

from agents.leaderboard import Submissions, update
from agents.leaderboard_check import check_leaderboard
from agents.leaderboard_looks import Looks
from agents.leaderboard_submissions import PolicyEntry, bundle_entry, penalty_entry, policy_entry
from agents.protocol_cli import add_leaderboard, leaderboard_command
from v2g_env.core.validate import InvalidInputError


def test_a_penalty_below_what_a_policy_earns_is_refused(kit, tmp_path):
    new = {kit.CHAIN: Submissions(penalties=[kit.penalty("too good", -150.0)])}
    with pytest.raises(InvalidInputError, match="mean is not zero"):
        update(tmp_path, new, [kit.CHAIN], kit.SETS[1:], kit.ADAPTERS)
    assert Looks.read(tmp_path).count(kit.SETS[1].key) == 1  # who learnt that has looked
    assert not (tmp_path / "leaderboard.json").exists()


def test_a_penalty_where_nobody_reads_one_is_refused_before_anything_is_scored(kit, tmp_path):
    with pytest.raises(InvalidInputError, match="environment of a penalty"):
        update(tmp_path, {kit.LOT: Submissions(penalties=[kit.penalty("any", 0.0)])}, [kit.LOT], kit.SETS, {})
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_another_instance_is_refused(kit, bundle, tmp_path):
    entry = bundle_entry(bundle)._replace(instance_sha256="0" * 64)
    with pytest.raises(InvalidInputError, match="default instance"):
        update(tmp_path, {kit.CHAIN: Submissions([entry])}, [kit.CHAIN], kit.SETS, kit.ADAPTERS)
    assert Looks.read(tmp_path).count(kit.SETS[1].key) == 0


def test_an_environment_that_is_not_scored_takes_no_submission(kit, tmp_path):
    with pytest.raises(InvalidInputError, match="environment of a submission"):
        update(tmp_path, {kit.CHAIN: Submissions(policies=[PolicyEntry("late", kit.late)])}, [kit.LOT], kit.SETS)
    with pytest.raises(InvalidInputError, match="environment"):
        update(tmp_path, None, ["V2G/Nowhere-v0"], kit.SETS)


def test_functions_come_from_files_and_modules_and_mistakes_are_named(tmp_path, monkeypatch):
    code = "def make(model):\n    return model\nnumber = 3\n"
    (tmp_path / "own_policy_of_a_test.py").write_text(code)
    assert policy_entry(f"{tmp_path / 'own_policy_of_a_test.py'}:make").make(5) == 5
    monkeypatch.chdir(tmp_path)
    entry = policy_entry("own_policy_of_a_test:make")
    assert (entry.name, entry.make(5)) == ("make", 5)
    for text, named in [
        ("own_policy_of_a_test", "policy"),
        ("own_policy_of_a_test:number", "number"),
        ("own_policy_of_a_test:absent", "absent"),
        ("no_such_module_at_all:make", "policy"),
        ("nowhere.py:make", "file of the policy"),
    ]:
        with pytest.raises(InvalidInputError, match=named):
            policy_entry(text)


def test_a_penalty_file_must_hold_a_json_object_of_finite_numbers(tmp_path):
    path = tmp_path / "W.json"
    path.write_text('{"b": 1.0, "a": [2]}')
    first = penalty_entry(path)
    path.write_text('{"a": [2],   "b": 1.0}')
    assert first == penalty_entry(path)  # the hash is of the content, not of the file's spaces
    assert first.name == "W"
    for text in ("", "[1]", '{"a": NaN}', '{"a": 1e999}'):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match="penalty"):
            penalty_entry(path)


def test_the_command_scores_a_bundle_and_a_function_and_checks(kit, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("agents.leaderboard.update", _on_tiny_sets(kit, update))
    monkeypatch.setattr("agents.leaderboard_check.check_leaderboard", _on_tiny_sets(kit, check_leaderboard))
    (tmp_path / "mine.py").write_text(
        "from baselines.price_chain.policies import TablePolicy, early_plan\n"
        "def early(model):\n    return TablePolicy(model, early_plan(model))\n"
    )
    parser = argparse.ArgumentParser()
    add_leaderboard(parser)

    def call(*words):
        arguments = parser.parse_args([str(word) for word in words])
        arguments.action(arguments)
        return capsys.readouterr().out

    assert parser.parse_args([]).action is leaderboard_command
    out = tmp_path / "out"
    text = call("--env", kit.CHAIN, "--bundle", bundle, "--policy", f"{tmp_path / 'mine.py'}:early", "--out", out)
    assert "| tiny | agent |" in text
    assert "| early | submission |" in text
    assert "holds" in call("--check", out)
    with pytest.raises(InvalidInputError, match="--env"):
        call("--policy", "a:b", "--out", out)
    with pytest.raises(InvalidInputError, match="submission"):
        call("--check", out, "--bundle", bundle)


def _on_tiny_sets(kit, function):
    return lambda *arguments, **options: function(*arguments, **{"sets": kit.SETS} | options)
