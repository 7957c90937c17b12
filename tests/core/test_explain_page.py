"""The commands of `docs/operate/explain.md` print what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fluxgate.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate" / "explain.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:60])
def test_the_pages_commands(
    block: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Line by line; `[...]` stands for any number of lines."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    shown = "".join(f"{line}\n" for line in block.splitlines() if not line.startswith("$ "))
    printed = ""
    for command in commands:
        python, flag, package, *words = shlex.split(command)
        assert (python, flag, package) == ("python", "-m", "fluxgate")
        assert main(words) == (2 if "error: " in shown else 0)
        printed += "".join(capsys.readouterr())
    if shown:
        pattern = re.escape(shown).replace(re.escape("[...]\n"), "(?s:.*)")
        assert re.fullmatch(pattern, printed), printed


def test_the_pages_snippets(capsys: pytest.CaptureFixture[str]) -> None:
    """What a line's comment shows is what it prints."""
    for snippet in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(snippet, {})
        assert capsys.readouterr().out.splitlines() == re.findall(r"\)  # (.*)$", snippet, re.M)


def test_the_page_has_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    listed = PAGE.partition("## What it takes")[2].partition("\n\nWhat can't")[0]
    assert set(re.findall(r"--[a-z][a-z-]+", listed)) == options


def test_the_page_has_all_sections(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "FailureRate(0.5)"]) == 0
    titles = re.findall(r"^(.+)\n-{5,}$", capsys.readouterr().out, re.MULTILINE)
    listed = re.findall(r"^\| ([A-Z][^|]+) \|", PAGE, re.MULTILINE)
    assert listed == titles
