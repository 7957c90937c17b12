"""Which paragraphs have words to translate, what a translation must keep, and pictures' texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from html import escape, unescape
from pathlib import Path

CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
TARGET = re.compile(r"\]\(([^)\s]*)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
IDENTIFIER = re.compile(r"[A-Z]\d+")  # of a check, such as W101
SVG_TEXT = re.compile(r"(<(?:text|title|desc)\b[^>]*>)([^<]+)")
STATE_OR_EVENT = re.compile(r"[A-Z_]+|[a-z_]+(\(\))?")

# Names and units that are the same in every language: a paragraph of these alone needs no
# translation.
NAMES = frozenset(
    re.findall(
        r"\S+",
        "Apache Celery Django Envoy FastAPI Flask Fluxgate Grafana JSON Litestar Micrometer"
        " OpenTelemetry Polly Prometheus Redis SQLAlchemy SQLite Sentry Slack Starlette TLS Tornado"
        " True URL Valkey aiobreaker aiohttp asyncio boto3 circuitbreaker critical false freezegun"
        " gRPC httpx httpx-retries httpx2 info nginx purgatory pybreaker redis-py requests"
        " resilience4j stamina structlog tenacity time-machine trio true warning"
        " KiB MiB min ms s",
    )
)


def spans(text: str) -> Counter[str]:
    """The spans of code in a paragraph, with how often each is there."""
    return Counter(found[2].strip() for found in CODE.finditer(text))


def targets(text: str) -> Counter[str]:
    """Where its links and pictures lead."""
    return Counter(TARGET.findall(CODE.sub("", text)))


def figures(text: str) -> set[str]:
    """The numbers in its prose; a translation may write out or add some, and drops none."""
    prose = re.sub(r"https?://\S+|\]\([^)]*\)", "", CODE.sub("", text))
    return set(NUMBER.findall(prose))


def has_words(text: str) -> bool:
    """Whether there is anything to translate beside code, addresses, numbers and names."""
    prose = re.sub(r"https?://\S+|\]\([^)]*\)", "", CODE.sub("", text))
    words = re.findall(r"[A-Za-z][\w-]*", prose)
    return any(word not in NAMES and not IDENTIFIER.fullmatch(word) for word in words)


def picture_in_korean(docs: Path) -> str:
    """The states' picture with Korean texts; states and events keep their names.

    Raises:
        KeyError: a text has no translation in `locales/ko/states.json`.
    """
    words = json.loads((docs / "locales" / "ko" / "states.json").read_text(encoding="utf-8"))

    def translated(found: re.Match[str]) -> str:
        text = unescape(found[2])
        kept = text not in words and STATE_OR_EVENT.fullmatch(text)
        return found[1] + (found[2] if kept else escape(words[text], quote=False))

    return SVG_TEXT.sub(translated, (docs / "states.svg").read_text(encoding="utf-8"))
