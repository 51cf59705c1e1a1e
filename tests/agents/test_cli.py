import json

import pytest

from agents.cli import main


def test_a_plan_is_solved_written_and_checked(tmp_path, capsys):
    path = tmp_path / "plan.json"
    main(["solve", "parking-lot", "--samples", "100", "--rho", "0.3", "--out", str(path)])
    assert "certified: the plan is optimal" in capsys.readouterr().out
    main(["check", str(path)])
    assert capsys.readouterr().out.startswith("holds")


def test_one_tampered_certificate_among_good_ones_fails_the_command(tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    main(["solve", "parking-lot", "--samples", "50", "--out", str(good)])
    data = json.loads(good.read_text())
    data["risk"]["eps"] /= 2.0
    bad.write_text(json.dumps(data))
    with pytest.raises(SystemExit) as stop:
        main(["check", str(bad), str(good)])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert f"REFUSED {bad}: risk.eps" in out
    assert f"holds   {good}" in out


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["solve", "parking-lot", "--samples", "0"], "n_samples"),
        (["solve", "parking-lot", "--law", "moon"], "law"),
        (["solve", "parking-lot", "--law", "days:jpl-2019/fit", "--samples", "97"], "n_samples"),
        (["solve", "parking-lot", "--beta", "1.5"], "beta"),
        (["solve", "parking-lot", "--instance", "{missing}"], "missing.toml"),
        (["train", "nothing"], "configuration"),
        (["evaluate", "{folder}"], "missing"),
        (["compare", "parking-lot", "--config", "{missing}"], "missing.toml"),
        (["compare", "stackelberg", "--config", "{missing}"], "missing.toml"),
        (["solve", "stackelberg", "--gap", "0"], "gap"),
        (["solve", "stackelberg", "--seconds", "-1"], "time_limit_s"),
        (["solve", "stackelberg", "--plugged", "1.5"], "plugged"),
        (["solve", "stackelberg", "--price", "{missing}"], "missing.toml"),
        (["solve", "stackelberg", "--instance", "{missing}"], "missing.toml"),
    ],
)
def test_bad_input_gives_one_line_and_status_two(tmp_path, capsys, command, named):
    words = [w.format(missing=tmp_path / "missing.toml", folder=tmp_path) for w in command]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("v2g: ")
    assert named in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "none"), ("1 2 3", "length of price"), ("1, x", "'x'"), ("nan " * 24, "price"), ("-1 " * 24, "price")],
)
def test_bad_prices_are_refused_by_name(tmp_path, capsys, text, named):
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["solve", "stackelberg", "--price", str(path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_a_day_is_solved_printed_written_and_checked(tmp_path, capsys):
    prices, path, fleet = tmp_path / "prices.csv", tmp_path / "day.json", tmp_path / "fleet.toml"
    prices.write_text(",".join(["0.06"] * 12 + ["0.1"] * 12))
    fleet.write_text("drivers = 100\nrebate_levels_usd_per_h = [0.0, 0.1, 0.2]")
    words = ["--instance", str(fleet), "--price", str(prices), "--weekend", "--plugged", "0.7", "--gap", "1e-3"]
    main(["solve", "stackelberg", *words, "--out", str(path)])
    out = capsys.readouterr().out
    assert "proven bound" in out
    assert "certified: " in out
    assert len([line for line in out.splitlines() if line.startswith("  ") and "%" in line]) == 24
    main(["check", str(path)])
    assert capsys.readouterr().out.startswith("holds")
    with pytest.raises(SystemExit):  # of another day than the base day of this instance
        main(["check", "--instance", str(fleet), str(path)])
    assert "instance_sha256" in capsys.readouterr().out
    main(["solve", "stackelberg", "--instance", str(fleet), "--gap", "1e-3", "--out", str(path)])
    main(["check", "--instance", str(fleet), str(path)])
    assert "holds" in capsys.readouterr().out


def test_the_environments_are_listed(capsys):
    main(["envs"])
    assert "V2G/ParkingLot-v0" in capsys.readouterr().out


def test_the_benchmark_of_the_bounds_prints_a_line_for_each(capsys):
    main(["bench", "risk"])
    assert capsys.readouterr().out.count(" ms for one complexity") == 3
