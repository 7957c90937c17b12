"""Inputs: bytes become text and values of any shape, the same for whichever driver makes the bytes.

A fuzzer changes bytes. Of plain bytes, a parser sees little more than its first check; so a target
takes its values from here, where a byte chooses a token of the grammar, a kind of value, a length.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final, TypeVar

T = TypeVar("T")

NUMBERS: Final[tuple[float, ...]] = (
    *(0, 1, -1, 2, 10, 255, 2**31 - 1, 2**31, 2**52, 2**63, 10**20, 10**400, -(10**400)),
    *(0.5, -0.0, 1e-9, 5e-324, 1e9, 1e15, 1e300, float("inf"), -float("inf"), float("nan")),
)
"""Numbers at the edges of something."""
WORDS: Final = (
    *("", " ", "0", "1", "-1", "true", "none", "nan", "inf", "1e999", "-", "1_0", "\u0661", "\0"),
    *("\ud800", "\u202e", "\x1b[31m", "<script>", "é", "\u00b2", "%FF", "%", "\t", "\n", "a b"),
    *("9" * 5000, "0x10", "1.5", "..", "a" * 300),
)
"""Texts at the edges of something; the longest number is more than `int()` reads."""
DEEPEST: Final = 4


class Inputs:
    """Values from bytes, taken from the front; when they are used up, each is the first choice."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """A number from 0 to 255."""
        at, self._at = self._at, self._at + 1
        return self._data[at] if at < len(self._data) else 0

    def pick(self, choices: Sequence[T]) -> T:
        """One of these."""
        if len(choices) <= 256:
            return choices[self.byte() % len(choices)]
        return choices[(self.byte() * 256 + self.byte()) % len(choices)]

    def some(self, most: int = 255) -> bytes:
        """A few bytes."""
        count = self.byte() % (most + 1)
        begin, self._at = self._at, self._at + count
        return self._data[begin : self._at]

    def rest(self) -> bytes:
        """All the bytes that are left."""
        begin, self._at = self._at, len(self._data)
        return self._data[begin:]

    @property
    def more(self) -> bool:
        """Whether there are any left."""
        return self._at < len(self._data)

    def text(self, data: bytes | None = None) -> str:
        """The rest as text; what isn't UTF-8 is lone surrogates, as in environment variables."""
        return (self.rest() if data is None else data).decode("utf-8", "surrogateescape")

    def phrase(self, tokens: Sequence[str], most: int = 400) -> str:
        """Text of tokens: a byte is one of these, or a character of its own.

        So a fuzzer that changes a byte changes a word.
        """
        words: list[str] = []
        while self.more and len(words) < most:
            byte = self.byte()
            if byte < 192:
                words.append(tokens[byte % len(tokens)])
            elif byte < 208:
                words.append(self.pick(WORDS))
            elif byte < 224:
                words.append(str(self.pick(NUMBERS[:10])))
            else:
                words.append(chr(self.byte()))
        return "".join(words)

    def written(self, tokens: Sequence[str]) -> str:
        """Text either way: as the bytes are, or of tokens."""
        return self.phrase(tokens) if self.byte() % 2 else self.text()

    def word(self, tokens: Sequence[str] = ()) -> str:
        """A short text: a token, a text at an edge, or a few bytes."""
        kind = self.byte() % 4
        if kind == 0 or (kind == 1 and not tokens):
            return self.pick(WORDS)
        if kind == 3:
            return self.text(self.some(24))
        return self.pick(tokens) if tokens else self.pick(WORDS)

    def value(self, tokens: Sequence[str] = (), depth: int = 0) -> Any:
        """A value of JSON, TOML, or neither: of any kind and shape, some levels deep."""
        kind = self.byte() % (12 if depth < DEEPEST else 8)
        match kind:
            case 0 | 1:
                return self.word(tokens)
            case 2 | 3:
                return self.pick(NUMBERS)
            case 4:
                return self.byte() * 256 + self.byte()
            case 5:
                return None
            case 6:
                return self.byte() % 2 == 0
            case 7:
                return self.pick((b"", b"\xff", datetime.date(2026, 11, 28), object, 1j, ("",)))
            case 8 | 9:
                return [self.value(tokens, depth + 1) for _ in range(self.byte() % 5)]
            case _:
                return self.table(tokens, depth + 1)

    def table(self, tokens: Sequence[str] = (), depth: int = 0, most: int = 6) -> dict[str, Any]:
        """A mapping with some of the tokens as its keys."""
        count = self.byte() % (most + 1)
        return {self.word(tokens): self.value(tokens, depth + 1) for _ in range(count)}

    def changed(self, sound: Any, tokens: Sequence[str] = ()) -> Any:
        """A sound value in which up to three things are otherwise, missing, or too many."""
        changed = deepcopy(sound)
        for _ in range(1 + self.byte() % 3):
            changed = self._changed(changed, tokens)
        return changed

    def _changed(self, value: Any, tokens: Sequence[str]) -> Any:
        if not value or not isinstance(value, (dict, list, tuple)) or self.byte() % 6 == 0:
            return self._another(value, tokens)
        if isinstance(value, dict):
            key = self.pick(tuple(value))
            kind = self.byte() % 12
            if kind == 0:
                return {name: each for name, each in value.items() if name != key}
            if kind == 1:
                return {**value, self.word(tokens): self.value(tokens, 2)}
            return {**value, key: self._changed(value[key], tokens)}
        at, kind = self.byte() % len(value), self.byte() % 12
        more = [value[at]] * (2 if kind == 1 else kind > 0)
        if kind > 1:
            more = [self._changed(value[at], tokens)]
        return type(value)([*value[:at], *more, *value[at + 1 :]])

    def _another(self, value: Any, tokens: Sequence[str]) -> Any:
        kind = self.byte() % 4
        if isinstance(value, (str, bytes)) and kind < 2:
            text = value if isinstance(value, str) else value.decode("latin-1")
            at = self.byte() % (len(text) + 1)
            text = f"{text[:at]}{self.word(tokens)}{text[at:]}"
            return text if isinstance(value, str) else text.encode("utf-8", "replace")
        if isinstance(value, (int, float)) and kind < 2:
            return self.pick(NUMBERS)
        return self.value(tokens, 2)
