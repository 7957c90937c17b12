"""Planted faults: a parser with three of them, which whoever searches must find."""

from __future__ import annotations

from fluxgate.errors import ConfigError

from .inputs import Inputs
from .targets import Grown, Target, refused, target

TOKENS = ("port=", "host=", "80", "localhost", ";", "[", "]")


def read(text: str) -> dict[str, int]:
    """A toy: `host=localhost;port=80`, with the faults that parsers have."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{part!r} has no value")
        found[name] = value
    if "host" not in found:
        raise ConfigError("no host")
    return {found["host"]: int(found["port"])}  # a KeyError, and a ValueError


@target(tokens=TOKENS, seeds=[b"\0host=localhost;port=80"], planted=True)
def wrong_error(data: Inputs) -> None:
    """A parser that raises what isn't documented."""
    with refused(ConfigError):
        read(data.written(TOKENS))


def quadratic(text: str) -> int:
    """How many brackets are closed; goes back to the beginning for each."""
    closed = 0
    for at, character in enumerate(text):
        if character == "[":
            closed += text.count("]", at)
    return closed


@target(tokens=TOKENS, seeds=[b"\1[]"], grown=Grown(quadratic, TOKENS), planted=True)
def too_slow(data: Inputs) -> None:
    """A parser that takes four times as long for twice as much."""
    quadratic(data.written(TOKENS))


FAULTY: dict[str, Target] = {each.name: each for each in (wrong_error, too_slow)}
