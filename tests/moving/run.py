"""The peers' halves of `docs/moving/`: run with the Python of an environment that has the peer.

    python tests/moving/run.py pybreaker circuitbreaker

runs the ```py blocks of those pages, page by page in one namespace each, as a reader would type
them. It imports nothing of Fluxgate: one peer has its import name. The session `moving` calls it.
"""

import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

PAGES = Path(__file__).parents[2] / "docs" / "moving"
BLOCK = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MADE_WITH = re.compile(r"^# .*?(\w+) (\d+\.\d+\.\d+)$", re.MULTILINE)


def run(name: str) -> None:
    """Run the blocks of one page; the installed version must be the one that they name."""
    page = PAGES / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    module = ModuleType("__page__")
    sys.modules[module.__name__] = module
    found = list(BLOCK.finditer(text))
    if not found:
        sys.exit(f"{page.name} has no ```py block")
    for block in found:
        written = MADE_WITH.match(block[1])
        if written is None:
            sys.exit(f"{page.name}: the first line of a ```py block is `# NAME VERSION`")
        if version(written[1]) != written[2]:
            sys.exit(f"{page.name} is about {written[0]!r}, here is {version(written[1])}")
        lines = "\n" * text[: block.start(1)].count("\n")
        exec(compile(lines + block[1], str(page), "exec", dont_inherit=True), vars(module))
    del sys.modules[module.__name__]
    print(f"{page.name}: {len(found)} blocks ran")


if __name__ == "__main__":
    started = time.monotonic()
    for wanted in sys.argv[1:]:
        run(wanted)
    print(f"{time.monotonic() - started:.1f} s")
