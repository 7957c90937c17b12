"""Every ```python block of the READMEs and of the pages in docs/ is executed.

A new page is picked up by itself; `tests/pages.py` says how its blocks are read. Requests that
leave httpx are answered here, with an empty JSON object, so that no page needs the network.
"""

from __future__ import annotations

import builtins
from dis import get_instructions
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import pytest

from ..pages import ROOT, blocks, commands, execute, run_command

# These have tests of their own: the Korean page leaves something to its reader, and a Django
# project's settings hold for a whole process.
ELSEWHERE = {
    ROOT / "docs" / "examples.ko.md",
    ROOT / "docs" / "how-to" / "django.md",
    ROOT / "docs" / "console.md",
    ROOT / "docs" / "start" / "django.md",
    ROOT / "packages" / "fluxgate-django" / "README.md",
}
# Pages about what only the session `compositions` installs.
NEEDS = {"boto3": "boto3", "grpc": "grpc", "litestar": "litestar", "llm": "openai"}


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
        if page not in ELSEWHERE and blocks(page.read_text(encoding="utf-8"), "python")
    ]


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
    names = execute(blocks(text, "python"), str(page))
    assert "__builtins__" in names
    if page.parent.name == "learn":
        for command, shown in commands(text):
            run_command(command, shown)


def test_a_block_that_fails_fails_with_its_line() -> None:
    page = "# Title\n\n```python\nx = 1\n```\n\n- in a list:\n\n  ```python\n  y = x / 0\n  ```\n"
    with pytest.raises(ZeroDivisionError) as caught:
        execute(blocks(page, "python"), "a page")
    assert caught.traceback[-1].lineno + 1 == 10


def test_blocks_share_names_and_may_await() -> None:
    page = "```python\nimport asyncio\nx = 1\n```\n```console\n$ no\n```\n```python\n"
    page += "await asyncio.sleep(0)\nx += 1\n```\n"
    assert execute(blocks(page, "python"), "a page")["x"] == 2


def test_what_a_page_prints_is_compared() -> None:
    page = "```python\nprint(1 + 1)\n```\n\nIt prints:\n\n```text\n{}\n```\n"
    execute(blocks(page.format("2"), "python"), "a page")
    with pytest.raises(AssertionError, match="line 1 of a page"):
        execute(blocks(page.format("3"), "python"), "a page")
    (block,) = blocks(page.replace("It prints", "A log's line").format("3"), "python")
    assert block.prints is None


def test_what_a_command_prints() -> None:
    shown = "…\nWhen it opens\n-------------\n…\n"
    run_command('python -m fluxgate explain "FailureRate(0.5)"', shown)
    with pytest.raises(AssertionError, match="explain"):
        run_command('python -m fluxgate explain "FailureRate(0.5)"', shown.replace("it", "is"))


@pytest.mark.parametrize("page", ["operate/metrics.md", "how-to/servers.md"], ids=lambda page: page)
def test_gunicorns_file_stands_alone(page: str) -> None:
    """A hook that lacks a name ends gunicorn, with all of its workers."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (block,) = (each for each in blocks(text, "python") if each.file == "gunicorn.conf.py")
    names: dict[str, Any] = {}
    exec(block.text, names)
    known = names.keys() | vars(builtins).keys()
    hooks = [each for each in names.values() if isinstance(each, FunctionType)]
    assert hooks
    for hook in hooks:
        used = {each.argval for each in get_instructions(hook) if each.opname == "LOAD_GLOBAL"}
        assert not used - known, hook.__name__


def test_no_block_is_gunicorns_unsaid() -> None:
    for page in pages():
        for block in blocks(page.read_text(encoding="utf-8"), "python"):
            if "def child_exit(" in block.text or "def worker_exit(" in block.text:
                assert block.file == "gunicorn.conf.py", f"{page}:{block.line}"


def test_readme_shows_what_it_prints() -> None:
    first = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")[0]
    assert first.prints is not None
