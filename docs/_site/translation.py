"""Which paragraphs have words to translate, and what a translation must keep of its original."""

from __future__ import annotations

import re
from collections import Counter

CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
TARGET = re.compile(r"\]\(([^)\s]*)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

# Names and units that are the same in every language: a paragraph of these alone needs no
# translation.
NAMES = frozenset(
    re.findall(
        r"\w+",
        "Apache Celery Django Envoy FastAPI Fluxgate Grafana JSON Micrometer OpenTelemetry Polly"
        " Prometheus Redis SQLite Sentry Slack TLS Tornado True URL Valkey aiobreaker asyncio"
        " circuitbreaker critical false httpx httpx2 info nginx purgatory pybreaker requests"
        " resilience4j structlog tenacity trio true warning"
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
    return any(word not in NAMES for word in re.findall(r"[A-Za-z]\w*", prose))
