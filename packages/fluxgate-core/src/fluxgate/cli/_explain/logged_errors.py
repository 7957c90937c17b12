"""Errors of a user's strategies, which a circuit logs while it is simulated."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def collect_logged_errors() -> Generator[list[str]]:
    """Collect the errors that circuits log inside the block; nothing of them is printed."""
    heard: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            what = record.getMessage().removeprefix("circuit 'trial': ")
            if error is not None and (text := f"{what} ({error})") not in heard:
                heard.append(text)

    logger, collector = logging.getLogger("fluxgate"), Collector()
    before = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield heard
    finally:
        logger.removeHandler(collector)
        logger.propagate = before
