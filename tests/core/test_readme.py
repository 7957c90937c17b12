"""Every ```python block of the READMEs and of the pages in docs/ is executed.

A new page is picked up by itself. The blocks of a page run in order and share their names, as a
reader would type them; `await` may stand at top level. Requests that leave httpx are answered
here, with an empty JSON object, so that no page needs the network.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
# These have tests of their own: the Korean page leaves something to its reader, and a Django
# project's settings hold for a whole process.
ELSEWHERE = {
    ROOT / "docs" / "examples.ko.md",
    ROOT / "docs" / "how-to" / "django.md",
    ROOT / "packages" / "fluxgate-django" / "README.md",
}

# Pages about what only the session `compositions` installs.
NEEDS = {"boto3": "boto3", "grpc": "grpc", "litestar": "litestar", "llm": "openai"}

BLOCK = re.compile(r"^([ \t]*)```python[ \t]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    """The sources of a page's blocks, each with its line numbers in the page."""
    return [
        "\n" * text[: found.start(2)].count("\n") + dedent(found[2])
        for found in BLOCK.finditer(text)
    ]


def pages() -> list[Path]:
    """All pages that hold a block."""
    found = [
        ROOT / "README.md",
        *sorted((ROOT / "packages").glob("*/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    return [
        page
        for page in found
        if page not in ELSEWHERE and page.exists() and blocks(page.read_text(encoding="utf-8"))
    ]


def execute(sources: list[str], name: str) -> dict[str, Any]:
    """Run the blocks in one namespace, that of a module (so that classes can be found by name)."""
    module = ModuleType("__page__")
    names = vars(module)
    sys.modules[module.__name__] = module

    async def in_a_loop(codes: list[Any]) -> None:
        for code in codes:
            answer = eval(code, names)
            if inspect.iscoroutine(answer):
                await answer

    try:
        codes = [
            compile(source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            for source in sources
        ]
        if any(code.co_flags & inspect.CO_COROUTINE for code in codes):
            asyncio.run(in_a_loop(codes))  # one loop, so that what a block starts lives on
        else:
            for code in codes:
                exec(code, names)
    finally:
        del sys.modules[module.__name__]
    return names


def answer(_: object, request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={}, request=request)


async def answer_async(_: object, request: httpx.Request) -> httpx.Response:
    return answer(_, request)


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer_async)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_pages_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a block may write files
    text = page.read_text(encoding="utf-8")
    if "import httpx2" in text:  # one row of the matrix goes without it
        pytest.importorskip("httpx2")
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem], reason="the session `compositions` has it")
    names = execute(blocks(text), str(page))
    assert "__builtins__" in names


def test_a_block_that_fails_fails_with_its_line() -> None:
    page = "# Title\n\n```python\nx = 1\n```\n\n- in a list:\n\n  ```python\n  y = x / 0\n  ```\n"
    with pytest.raises(ZeroDivisionError) as caught:
        execute(blocks(page), "a page")
    assert caught.traceback[-1].lineno + 1 == 10


def test_blocks_share_names_and_may_await() -> None:
    page = "```python\nimport asyncio\nx = 1\n```\n```console\n$ no\n```\n```python\n"
    page += "await asyncio.sleep(0)\nx += 1\n```\n"
    assert execute(blocks(page), "a page")["x"] == 2


def test_readme_shows_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    execute(blocks(text)[:1], "README.md")
    assert capsys.readouterr().out == shown[1]
