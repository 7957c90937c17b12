"""The reference of commands: a directive that shows what each prints for `--help`."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout, suppress
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fluxgate.cli import main


def help_of(*words: str) -> str:
    """What `python -m fluxgate WORDS --help` prints, in 80 columns."""
    os.environ["COLUMNS"] = "80"
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue().rstrip()


class Commands(SphinxDirective):
    """`.. commands::`: a section for each command."""

    def run(self) -> list[nodes.Node]:
        whole = help_of()
        names = re.findall(r"^    ([a-z]+)  ", whole, re.MULTILINE)
        sections: list[nodes.Node] = [nodes.literal_block(whole, whole, language="text")]
        for name in names:
            title = f"python -m fluxgate {name}"
            section = nodes.section(ids=[nodes.make_id(title)], names=[title])
            text = help_of(name)
            section += nodes.title(title, title)
            section += nodes.literal_block(text, text, language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "version": "1"}
