"""The console's pages from plain values: escaped, in two languages, and small."""

from __future__ import annotations

import gzip
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import pytest

import fluxgate.console
from fluxgate.console._html import Context, message, overview
from fluxgate.console._html_circuit import detail, dialog
from fluxgate.console._markup import percent, rate, strip
from fluxgate.console._sentences import SENTENCES
from fluxgate.console._view import Action, Change, Detail, Dialog, Entry, Overview, ProcessRow, Row
from fluxgate.console._words import LANGUAGES, Language, language_of, words
from fluxgate.signals import Reason
from fluxgate.state import State

STATIC = Path(fluxgate.console.__file__).parent / "static"
NOW = 1_764_326_400.0
EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&\u202e\ud800\x00"
NAMED = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=&#x27;alert(2)&#x27;"


def context(language: Language = "en") -> Context:
    return Context("/circuits/", language, "alice", NOW, asked=True)


def row(state: State = State.OPEN, name: str = "payments", number: int = 1) -> Row:
    return Row(
        f"{number:024x}",
        name,
        state,
        open_in=3,
        processes=8,
        since=NOW - 250,
        reason=Reason(f"42 of 100 failed, said {name}", note=name, by=name),
        calls_rate=12.0,
        failed=0.42,
        slow=0.0,
        refused_rate=120.0,
        retry_after=12.0,
        reopens=2,
        shadow=Reason(name, 0.5, 10, name),
        strip=(None, *[State.CLOSED] * 20, *[State.OPEN] * 9),
    )


def listed(*rows: Row, name: str = "web") -> Overview:
    counts = dict.fromkeys(State, 1)
    return Overview(
        name, name, 7, 8, 1, 0.5, name, counts, rows, len(rows), 1, 2, name, fleet=True, at=NOW
    )


def in_full(name: str) -> Detail:
    action = Action("force_open", name, True, None, asks_name=True, timed=True)
    process = ProcessRow(name, name, 7, State.OPEN, 100, 42, 9, Reason(name), 1.0, absent=False)
    why = Reason(name, 0.42, 100, name, note=name, by=name)
    done = Entry(
        *(NOW, name, name, name, "1" * 24, "reset", 900.0, name),
        *(State.OPEN, State.CLOSED, "done", name, "op"),
    )
    return Detail(
        row=row(name=name),
        changes=(Change(NOW, State.CLOSED, State.OPEN, why, "peer", ((name, 2),)),),
        evidence=(name,),
        policy=((name, (name,)),),
        totals={"successes": 1},
        settings={name: name},
        processes=(process, process._replace(absent=True)),
        audit=(done, done._replace(action=name, outcome="denied")),
        actions=(action, action._replace(allowed=False, why_not=name)),
        errors=((name, 2),),
    )


def asked(name: str) -> Dialog:
    action = Action("disable", name, True, None, asks_name=True, timed=True)
    return Dialog(row(name=name), action, name, name, name, None, {"note": name, "": name})


def every_page(language: Language = "en", name: str = "payments") -> dict[str, str]:
    given = context(language)
    return {
        "overview": overview(listed(row(name=name), name=name), given),
        "empty": overview(listed(name=name), given),
        "detail": detail(in_full(name), given._replace(operation="op"), service=name),
        "dialog": dialog(asked(name), given._replace(fields=((name, name),)), service=name),
        "message": message(name, name, given, service=name),
    }


class Elements(HTMLParser):
    """The elements of a page, and what could run a script or a style of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("page", every_page())
def test_hostile_text_is_escaped(page: str) -> None:
    calm, evil = every_page()[page], every_page(name=EVIL)[page]
    assert NAMED in evil
    assert "\\u202e\\ud800\\x00" in evil
    assert Elements(evil).names == Elements(calm).names
    assert evil.encode()


@pytest.mark.parametrize("page", every_page())
def test_nothing_is_inline(page: str) -> None:
    found = Elements(every_page(name=EVIL)[page])
    assert found.names.count("script") == 1  # the module in the head
    assert "style" not in found.names
    assert not [key for key, _ in found.attributes if key == "style" or key.startswith("on")]


def test_links_stay_on_this_host() -> None:
    page = overview(listed(row()), context()._replace(root="//evil.example/a b/"))
    links = [value for key, value in Elements(page).attributes if key in ("href", "src", "action")]
    assert links
    assert all(link and link.startswith(("/evil.example/a%20b/", "#")) for link in links)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_in_each_language(language: Language) -> None:
    page = every_page(language)["overview"]
    assert page.startswith(f"<!DOCTYPE html>\n<html lang={language}>")
    assert words(language)("half_open") in page
    assert words(language)("caption") in page


def test_languages_have_equal_values() -> None:
    for key, (english, korean) in SENTENCES.items():
        *single, many, other = [
            {name for _, name, _, _ in Formatter().parse(each) if name}
            for each in (*english.split("|"), korean)
        ]
        assert many == other, key
        assert all(each <= many for each in single), key  # "the last call" has no number


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, "en-US,en;q=0.9,ko;q=0.8", "en"),
        (None, "fr, ko;q=0.1", "ko"),
        (None, "ko;q=0, fr", "en"),
        (None, "ko;q=x;;,=,;q=1", "en"),
        ("ko", "en", "ko"),
        ("en", "ko", "en"),
        ("xx", "ko", "ko"),
    ],
)
def test_language_of_a_request(asked: str | None, accepted: str, language: Language) -> None:
    assert language_of(asked, accepted) == language


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (-3, "0 s", "0초"),
        (12.9, "12 s", "12초"),
        (60, "1 min", "1분"),
        (250, "4 min 10 s", "4분 10초"),
        (7_500, "2 h 5 min", "2시간 5분"),
        (86_400 * 1234 + 59, "1,234 d", "1,234일"),
    ],
)
def test_durations_in_words(seconds: float, english: str, korean: str) -> None:
    assert words("en").duration(seconds) == english
    assert words("ko").duration(seconds) == korean


def test_thresholds_in_words() -> None:
    assert [words("en").seconds(each) for each in (0.25, 1.5, 30, 600)] == [
        *("250 ms", "1.5 s", "30 s", "10 min"),
    ]
    assert words("ko").seconds(0.25) == "250밀리초"


def test_a_single_one_is_singular() -> None:
    assert words("en")("refusing", n=1) == "1 circuit refuses calls"
    assert words("en")("refusing", n=1200) == "1,200 circuits refuse calls"
    assert words("ko")("refusing", n=1) == "서킷 1개가 호출을 거부하고 있습니다"


def test_braces_in_a_name_are_no_format() -> None:
    page = overview(listed()._replace(filter="{n!r}{0}"), context())
    assert "contains “{n!r}{0}”" in page


def test_numbers_in_a_row() -> None:
    assert [rate(each) for each in (None, 0, 0.04, 9.94, 9.96, 1234.5)] == [
        *("", "0", "0.0", "9.9", "10", "1,234"),
    ]
    assert [percent(each) for each in (None, 0, 0.0001, 0.42, 0.9994, 1)] == [
        *("", "0 %", "0.1 %", "42 %", "99.9 %", "100 %"),
    ]


def test_a_strip_says_what_it_draws() -> None:
    minutes = (None, *[State.CLOSED] * 20, *[State.OPEN] * 5, *[State.CLOSED] * 4)
    drawn = strip(words("en"), minutes)
    assert 'aria-label="closed 24 min, open 5 min"' in drawn
    assert drawn.count("<path") == 2
    assert 'viewBox="0 0 120 16"' in drawn
    assert "no data" in strip(words("en"), (None,) * 30)


def test_a_form_has_what_it_must_send() -> None:
    given = asked("payments")._replace(operation="op7", token="t7", seconds=123.0)
    page = dialog(given, context()._replace(fields=(("csrfmiddlewaretoken", "x7"),)))
    for name, value in (("operation", "op7"), ("token", "t7"), ("csrfmiddlewaretoken", "x7")):
        assert f'<input type=hidden name="{name}" value="{value}">' in page
    assert "<option value=123 selected>2 min 3 s" in page
    assert "<option value=''>until reset" in page
    assert page.count("autofocus") == 1
    assert " autofocus" in page.split("id=name ")[1].split(">")[0]  # it is asked for first
    plain = given._replace(action=given.action._replace(asks_name=False))
    assert " autofocus" in dialog(plain, context()).split("id=note ")[1].split(">")[0]
    timed = given._replace(action=given.action._replace(action="open_for"))
    assert "until reset" not in dialog(timed, context())


def test_why_controls_are_off() -> None:
    off = Action("reset", "", False, "controls are off here", asks_name=False, timed=False)
    page = detail(in_full("payments")._replace(actions=(off, off)), context())
    assert page.count("controls are off here") == 1
    assert "data-dialog" not in page


def test_a_page_of_200_rows_is_small() -> None:
    rows = tuple(row(name=f"api-{each}.example.com:443", number=each * 7919) for each in range(200))
    assert len(gzip.compress(overview(listed(*rows), context()).encode(), 1)) < 15_000


def test_static_files_are_small() -> None:
    assert (STATIC / "console.js").stat().st_size <= 10_000
    assert (STATIC / "console.css").stat().st_size <= 15_000
