"""The snippets of the pages, read from their Markdown and executed.

A block whose first line names a file (`# shop/views.py`) may be written there, as part of it. Where
a `text` block follows a Python one, and the words between them say that it "prints", it must
print that.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import dedent
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from fluxgate.cli import main

ROOT = Path(__file__).parents[1]

FENCED = re.compile(r"^([ \t]*)```(\w+)[ \t]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A(?:# |<!-- )([\w./-]+\.\w+)(?: -->)?\n")


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    text: str
    file: str | None  # what it is a part of, if anything
    line: int  # lines of the page above it
    prints: str | None  # what the page says that it prints

    @property
    def source(self) -> str:
        """Its text at its place in the page, so that errors name the page's lines."""
        return "\n" * self.line + self.text


def blocks(text: str, *kinds: str) -> list[Block]:
    """The blocks of a page, of these kinds or of all."""
    found = list(FENCED.finditer(text))
    result = []
    for number, block in enumerate(found):
        content = dedent(block[3])
        named = FILE.match(content)
        prints = None
        if block[2] == "python" and number + 1 < len(found) and found[number + 1][2] == "text":
            following = found[number + 1]
            if re.search(r"\bprints?\b", text[block.end() : following.start()]):
                prints = dedent(following[3])
        line = text.count("\n", 0, block.start(3))
        result.append(Block(block[2], content, named and named[1], line, prints))
    return [block for block in result if not kinds or block.kind in kinds]


def untimed(text: str) -> str:
    """A text without the seconds that are left, which run on between two lines of a page."""
    return re.sub(r"(try again in |Retry-After: )[\d.]+", r"\1…", text)


def commands(text: str) -> list[tuple[str, str]]:
    """Each `$ python -m fluxgate` command of a page, with what the page shows of its output."""
    found = []
    for block in blocks(text, "console"):
        for part in block.text.split("$ ")[1:]:
            command, _, shown = part.partition("\n")
            if command.startswith("python -m fluxgate ") and shown:
                found.append((command, shown))
    return found


def run_command(command: str, shown: str) -> None:
    """Run a command here, and compare what it prints; a line `…` stands for any lines."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        main(shlex.split(command)[3:])
    pattern = "".join(
        "(?:.*\n)*?" if line == "…\n" else re.escape(line)
        for line in shown.splitlines(keepends=True)
    )
    assert re.fullmatch(pattern, printed.getvalue()), f"{command}\n{printed.getvalue()}"


def write_project(text: str, root: Path) -> None:
    """Write the files of a page, each made of its blocks in order."""
    for block in blocks(text):
        if block.file is not None:
            path = root / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(block.text)


def execute(found: Iterable[Block], name: str) -> dict[str, Any]:
    """Run blocks in one namespace, that of a module, and compare what they print.

    They run in order and share their names, as a reader would type them; `await` may stand at top
    level. Classes can be found by name, as pickling does, and names of a block that is a file
    (`# shop/circuits.py`) can be imported from there.
    """
    found = list(found)
    module = ModuleType("__page__")
    names = vars(module)
    files = {
        block.file.removesuffix(".py").replace("/", ".")
        for block in found
        if block.file and "/" in block.file
    }
    modules = {module.__name__, *files} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(modules, module))
    codes = [
        (
            compile(block.source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True),
            block,
        )
        for block in found
    ]

    def run(code: CodeType, block: Block) -> Any:
        if block.prints is None:
            return eval(code, names)
        printed = io.StringIO()
        with redirect_stdout(printed):
            answer = eval(code, names)
        shown = untimed(printed.getvalue())
        assert shown == untimed(block.prints), f"what line {block.line} of {name} prints"
        return answer

    async def in_a_loop() -> None:
        for code, block in codes:
            answer = run(code, block)
            if inspect.iscoroutine(answer):
                await answer

    try:
        if any(code.co_flags & inspect.CO_COROUTINE for code, _ in codes):
            asyncio.run(in_a_loop())  # one loop, so that what a block starts lives on
        else:
            for code, block in codes:
                run(code, block)
    finally:
        for each in modules:
            del sys.modules[each]
    return names
