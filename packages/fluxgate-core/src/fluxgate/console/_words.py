"""The console's words: the language of a page, and its sentences with their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from fluxgate.console._sentences import SENTENCES
from fluxgate.state import State

Language: TypeAlias = Literal["en", "ko"]

LANGUAGES: Final[Mapping[Language, str]] = {"en": "English", "ko": "한국어"}
"""The languages of the page, each by its own name."""

_UNITS: Final = (("unit_d", 86_400), ("unit_h", 3_600), ("unit_min", 60), ("unit_s", 1))


class Words:
    """The words of one language: called with a key and the values that stand in the sentence."""

    __slots__ = ("_place", "language")

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._place = list(LANGUAGES).index(language)

    def __call__(self, key: str, /, **values: object) -> str:
        """The sentence of a key; KeyError for one that isn't there.

        Args:
            key: as in `SENTENCES`.
            values: what stands in its braces. An int `n` chooses the singular, and has its
                thousands apart.
        """
        sentence = SENTENCES[key][self._place]
        if not values:
            return sentence
        n = values.get("n")
        if isinstance(n, int):
            singular, _, plural = sentence.partition("|")
            sentence = singular if n == 1 or not plural else plural
            values["n"] = f"{n:,}"
        return sentence.format_map(values)

    def state(self, state: State | None) -> str:
        """The word of a state; None: unknown."""
        return self("unknown" if state is None else str(state))

    def action(self, action: str) -> str:
        """The name of a control, as on its button."""
        return self("metrics_only_act" if action == "metrics_only" else action)

    def seconds(self, seconds: float) -> str:
        """A duration in full: `250 ms`, `1.5 s`, from two minutes on as `duration`."""
        if seconds < 1:
            return self("unit_ms", n=f"{seconds * 1000:.3g}")
        return self("unit_s", n=f"{seconds:.4g}") if seconds < 120 else self.duration(seconds)

    def duration(self, seconds: float) -> str:
        """A duration in its two largest units: `12 s`, `4 min 10 s`, `2 h 5 min`, `3 d`."""
        whole = max(0, int(seconds))
        for place, (unit, size) in enumerate(_UNITS):
            if whole >= size or size == 1:
                first, rest = divmod(whole, size)
                shown = self(unit, n=first)
                if size > 1:
                    unit, smaller = _UNITS[place + 1]
                    shown += f" {self(unit, n=rest // smaller)}" if rest >= smaller else ""
                return shown
        raise AssertionError


_LANGUAGES: Final[Mapping[Language, Words]] = {each: Words(each) for each in LANGUAGES}


def words(language: Language) -> Words:
    """The words of a language."""
    return _LANGUAGES[language]


def language_of(asked: str | None, accepted: str) -> Language:
    """The language of a page.

    Args:
        asked: the parameter `lang`; it decides, where it is a language of ours.
        accepted: the header `Accept-Language` (RFC 9110, section 12.5.4); empty: English.
    """
    for each in LANGUAGES:
        if each == asked:
            return each
    best: Language = "en"
    most = 0.0
    for part in accepted[:1000].lower().split(","):
        tag, _, parameter = part.partition(";")
        weight = _weight(parameter.strip())
        for each in LANGUAGES:
            if tag.strip().partition("-")[0] == each and weight > most:
                best, most = each, weight
    return best


def _weight(parameter: str) -> float:
    """The weight of a language range: `q=0.8`; 1 where there is none, 0 where it is nonsense."""
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    if name.strip() != "q" or not value.strip().replace(".", "", 1).isdecimal():
        return 0.0
    return min(1.0, float(value))
