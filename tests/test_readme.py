import re
from pathlib import Path

import pytest

from agents.cli import main

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_code_in_the_readme_runs_as_it_stands(code):
    exec(compile(code, "README.md", "exec"), {})


def test_every_command_in_the_readme_exists(capsys):
    commands = set(re.findall(r"^v2g (\w+)", README, re.MULTILINE))
    assert len(commands) >= 6
    for name in commands:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
    capsys.readouterr()
