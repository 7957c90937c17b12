"""One target under atheris, in this process: `run.py` starts it.

python -m tests.fuzzing.one NAME FOLDER SECONDS
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fluxgate", "fluxgate_httpx", "fluxgate_fastapi"]):
    from .every import FAULTY, TARGETS
    from .targets import Target

LONGEST = 4096
"""Bytes of an input."""
TIMEOUT = 10
"""Seconds that one input may take: a thousand times of what the slowest takes."""
MEMORY = 2048
"""MiB that the process may take."""


def fuzz(target: Target, folder: Path, seconds: int) -> None:
    """Fuzz; doesn't return."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    tokens = folder / "tokens"
    tokens.write_text("".join(map(_quoted, target.tokens)))
    arguments = [
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={TIMEOUT}"),
        *(f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={folder}/", "-print_final_stats=1"),
        *([f"-dict={tokens}"] if target.tokens else []),
    ]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], target)
    atheris.Fuzz()


def _quoted(token: str) -> str:
    """A token as libFuzzer's dictionaries have it."""
    data = token.encode("utf-8", "surrogatepass")[:64]
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"\n' if data else ""


if __name__ == "__main__":
    logging.disable()
    name, folder, seconds = sys.argv[1:]
    fuzz({**TARGETS, **FAULTY}[name], Path(folder), int(seconds))
