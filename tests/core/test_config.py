"""Breakers from settings: what can be written, and what is said about what can't."""

import logging
import operator
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, ConfigError, State
from fluxgate.config import KEYS, Config, Mistake, SettingError, build, load, parse, read
from fluxgate.permits import All as AllCalls
from fluxgate.permits import RampUp, Random
from fluxgate.policy import Settings
from fluxgate.retries import Always, Backoff, Cooldown, Never
from fluxgate.trackers import All, CausedBy, Custom, TypeOf
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
)
from fluxgate.windows import CountWindow, TimeWindow

ratios = st.floats(0, 1, exclude_min=True)
seconds = st.floats(1e-9, 1e9) | st.integers(1, 10**9)
counts = st.integers(1, 10**6)

windows = st.builds(CountWindow, counts) | st.builds(
    lambda size, buckets: TimeWindow(max(size, buckets * 1e-6), buckets), seconds, counts
)
retries = st.one_of(
    st.builds(Always),
    st.builds(Never),
    st.builds(Cooldown, seconds, st.just(0.0) | ratios),
    st.builds(
        lambda a, b, m, j: Backoff(min(a, b), m, max(a, b), j), seconds, seconds, counts, ratios
    ),
)
permits = st.one_of(
    st.builds(AllCalls),
    st.builds(Random, ratios),
    st.builds(lambda a, b, d: RampUp(min(a, b), max(a, b), d), ratios, ratios, seconds),
)
exceptions = st.sampled_from([ValueError, OSError, pickle.PickleError, re.error, BaseException])
trackers = st.recursive(
    st.one_of(
        st.builds(All),
        st.lists(exceptions, min_size=1, max_size=3).map(lambda kinds: TypeOf(*kinds)),
        st.lists(exceptions, min_size=1, max_size=3).map(lambda kinds: CausedBy(*kinds)),
        st.sampled_from([bool, operator.truth, logging.Formatter.format]).map(Custom),
    ),
    lambda inner: st.one_of(
        st.builds(operator.and_, inner, inner),
        st.builds(operator.or_, inner, inner),
        st.builds(operator.invert, inner),
    ),
    max_leaves=8,
)
trippers = st.recursive(
    st.one_of(
        st.builds(Closed),
        st.builds(HalfOpened),
        st.builds(MinRequests, counts),
        st.builds(FailureRate, ratios),
        st.builds(FailureStreak, counts),
        st.builds(SlowRate, ratios, seconds),
        st.builds(AvgLatency, seconds),
    ),
    lambda inner: st.builds(operator.and_, inner, inner) | st.builds(operator.or_, inner, inner),
    max_leaves=12,
)
written = st.one_of(
    st.tuples(st.just("window"), windows),
    st.tuples(st.just("retry"), retries),
    st.tuples(st.just("permit"), permits),
    st.tuples(st.just("tracker"), trackers),
    st.tuples(st.just("tripper"), trippers),
)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable module `shop.rules` with one of everything."""
    shop: Any = ModuleType("shop")
    module: Any = ModuleType("shop.rules")
    module.TRIPPER = FailureStreak(3)
    module.heard = []
    module.listener = lambda signal: module.heard.append(signal)  # not the same as `append`
    module.failed = lambda result: result == "failed"
    module.clock = lambda: 5.0
    module.make = lambda name: AsyncCircuitBreaker(name, retry=Never())
    module.make_nothing = {}.get
    shop.rules = module
    monkeypatch.setitem(sys.modules, "shop", shop)
    monkeypatch.setitem(sys.modules, "shop.rules", module)
    return module


def complaint(call: Callable[..., object], *args: object, **kwargs: object) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# -- expressions


@given(written)
def test_the_repr_of_a_strategy_builds_an_equal_one(pair: tuple[Any, object]) -> None:
    kind, strategy = pair
    read_back = parse(kind, repr(strategy))
    assert read_back == strategy
    assert repr(read_back) == repr(strategy)
    assert hash(read_back) == hash(strategy)


def test_an_expression_groups_as_python_does() -> None:
    assert parse("tripper", "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))") == (
        MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))
    )
    assert parse("tripper", "Closed() & MinRequests(3) | FailureStreak(count=2)") == (
        (Closed() & MinRequests(3)) | FailureStreak(2)
    )
    assert parse("tracker", "~TypeOf('KeyError', \"OSError\") & All()") == (
        ~TypeOf(KeyError, OSError) & All()
    )


def test_the_kind_says_what_a_name_means() -> None:
    assert parse("tracker", "All()") == All()
    assert parse("permit", "All()") == AllCalls()


def test_an_expression_may_have_several_lines_as_in_toml() -> None:
    assert parse("tripper", "\n  MinRequests(5)\n  & FailureRate(0.5)\n") == (
        MinRequests(5) & FailureRate(0.5)
    )


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("tripper", "FailureRate(1.5)", "FailureRate(1.5): ratio must be in (0, 1]"),
        ("retry", "Cooldown(-1)", "Cooldown(-1): duration must be 0, or 1e-9 to 1e9 seconds"),
        ("retry", "Cooldown(1e999)", "duration must be 0, or 1e-9 to 1e9"),
        ("window", 'CountWindow("9")', "CountWindow('9'): size must be a whole number, not '9'"),
        ("tripper", "MinRequests(1) &", "`MinRequests(1) &`: column 17: it ends too soon"),
        ("tripper", "MinRequests(1) && Closed()", "column 17: invalid syntax"),
        ("tripper", "MinRequests(1))", "column 15: unmatched ')'"),
        ("tripper", "Closed() and Closed()", "column 1: write & in place of `and`"),
        ("tripper", "Closed() or Closed()", "write | in place of `or`"),
        ("tracker", "not All()", "write ~ in place of `not`"),
        ("tripper", "Closed() - Closed()", "only & and | (and ~ for trackers) join clauses"),
        ("tripper", "~Closed()", "~ turns trackers around, and this is a tripper"),
        ("retry", "Always() | Never()", "a retry can't be combined with another: give one"),
        ("tripper", "Closed() & FailurRate(1)", "column 12: no tripper is called FailurRate;"),
        ("tripper", "failurerate(0.5)", "did you mean 'FailureRate'?"),
        ("retry", "RampUp(1)", "RampUp is a permit, and a retry is wanted"),
        ("tripper", "FailureRate", "write FailureRate(ratio), with brackets"),
        ("retry", "retries.Cooldown(1)", "write Cooldown(...) without its module"),
        ("retry", "Cooldown()", "missing a required argument: 'duration'; it is written Cooldown("),
        ("retry", "Cooldown(1, jitter=1)", "unexpected keyword argument 'jitter'; it is written"),
        ("retry", "Cooldown(duration=1, duration=2)", "column 22: duration is given twice"),
        ("window", "CountWindow(True)", "column 13: CountWindow takes numbers and strings"),
        ("window", "CountWindow(0x10)", "column 13: '0' can't be read"),
        ("tracker", "TypeOf(httpx.Error)", 'write the name in quotes: "httpx.Error"'),
        ("tracker", 'TypeOf("no.Error")', 'TypeOf("no.Error"): "no.Error" can\'t be imported'),
        ("tracker", 'TypeOf("os.sep")', "is not an exception type"),
        ("tripper", "10", "expected a tripper, such as MinRequests(10) & FailureRate(0.5)"),
        ("tripper", "FailureRate(0.5) # half", "column 18: '#' can't be read"),
        ("tripper", "é & ~", "column 6: it ends too soon"),
        ("tracker", 'TypeOf("é") & x', "can't be imported"),
        ("tripper", "  ", "it is empty: give an expression such as MinRequests(10)"),
        ("tripper", "os.path.join", "is not a tripper: give an expression"),
        ("tripper", "no.such.RULE", '"no.such.RULE" can\'t be imported (No module named'),
        ("tripper", "fluxgate.trippers.Closed", "Closed is the class: give an instance"),
        ("triper", "x", "kinds are window, tracker, tripper, retry, permit, not 'triper'; did you"),
        ("retry", 30, "parse() reads expression strings, not 30"),
    ],
)
def test_a_mistake_gets_a_sentence_that_says_what_to_do(kind: Any, text: str, says: str) -> None:
    assert says in complaint(parse, kind, text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "Closed().__class__",
        "[Closed() for x in (1,)][0]",
        "Closed() if 1 else Closed()",
        "(lambda: Closed())()",
        "MinRequests(*(1,))",
        "MinRequests(**{})",
        "MinRequests(10)(3)",
        "MinRequests(int('3'))",
        "MinRequests(2 + 3)",
        "MinRequests(9 ** 9 ** 9)",
        "(x := Closed())",
        "f'{1}'",
        "Closed()\x00",
        "eval('1')",
        "Custom('print')",
    ],
)
def test_nothing_is_evaluated(text: str) -> None:
    assert complaint(parse, "tripper", text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1999,
        "~" * 1999,
        "-" * 1999,
        "Closed(" * 300,
        "Closed() | " * 150 + "Closed()",
        "~" * 100 + "All()",
        "'" * 1999,
        "1" * 1999,
        "not " * 400 + "All()",
        "x" * 10**6,
        "(" * 10**6,
    ],
    ids=range(11),
)
@pytest.mark.parametrize("kind", ["tripper", "tracker"])
def test_hostile_text_is_refused_in_a_short_message(kind: Any, text: str) -> None:
    assert len(complaint(parse, kind, text)) < 400


def test_where_a_long_expression_is_wrong_is_shown() -> None:
    text = " | ".join(f"FailureStreak({n})" for n in range(1, 30)) + " | Nothing()"
    said = complaint(parse, "tripper", text)
    assert f"column {text.index('Nothing') + 1}: no tripper is called Nothing" in said
    assert "`…" in said
    assert "FailureStreak(1)" not in said


# -- one breaker


def test_every_parameter_of_a_breaker_is_a_setting() -> None:
    # A fleet is of a registry or of a file, not of one table in it.
    own = CircuitBreaker.__init__.__annotations__.keys() - {"name", "settings", "return", "fleet"}
    assert set(KEYS) == own | Settings.__annotations__.keys()


def test_build_makes_a_breaker_of_strings_numbers_paths_and_objects(rules: ModuleType) -> None:
    breaker = build(
        "payments",
        {
            "window": "CountWindow(50)",
            "tracker": TypeOf(OSError),
            "tripper": "shop.rules.TRIPPER",
            "retry": "Cooldown(30)",
            "permit": "Random(0.5)",
            "result_tracker": "shop.rules.failed",
            "max_half_open_calls": 3,
            "probe_timeout": "2.5",
            "listeners": ["shop.rules.listener", rules.heard.append],
            "initial_state": "METRICS_ONLY",
            "clock": "shop.rules.clock",
            "dice": lambda: 0.1,
            "shadow": "FailureStreak(2)",
            "buckets": ["0.1", 1],
            "error_messages": "true",
        },
    )
    assert type(breaker) is CircuitBreaker
    assert breaker.name == "payments"
    assert breaker.state is State.METRICS_ONLY
    policy = breaker.policy
    assert policy.window == CountWindow(50)
    assert policy.tracker == TypeOf(OSError)
    assert policy.tripper is rules.TRIPPER
    assert policy.retry == Cooldown(30)
    assert policy.permit == Random(0.5)
    assert policy.result_tracker is rules.failed
    assert policy.max_half_open_calls == 3
    assert policy.probe_timeout == 2.5
    assert policy.shadow == FailureStreak(2)
    assert policy.buckets == (0.1, 1)
    assert policy.error_messages is True
    assert build("a", {"buckets": "0.1, 0.5,1"}).policy.buckets == (0.1, 0.5, 1)
    assert build("a", {"shadow": None}).policy.shadow is None
    breaker.reset()
    assert len(rules.heard) == 2


def test_build_takes_upper_case_and_makes_async_breakers() -> None:
    breaker = build("search", {"RETRY": "Never()"}, asynchronous=True)
    assert type(breaker) is AsyncCircuitBreaker
    assert breaker.policy.retry == Never()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tripper": "FailureRate(1.5)"}, "payments.tripper: FailureRate(1.5): ratio must be in"),
        ({"TRIPER": "Closed()"}, "payments.TRIPER: unknown setting; known are window, tracker"),
        ({"TRIPER": "Closed()"}, "did you mean 'tripper'?"),
        ({3: 4}, "payments.3: unknown setting"),
        (
            {"com": {"retry": "Never()"}},
            "a circuit's name, which has dots, it needs quotes in TOML",
        ),
        ({"retry": "Never()", "RETRY": "Always()"}, "payments.RETRY: it is given twice"),
        ({"retry": 30}, "payments.retry: 30 is not a retry: give an expression such as Cooldown"),
        ({"retry": Never}, "payments.retry: Never is the class: give an instance"),
        (
            {"retry": MinRequests(1)},
            "payments.retry: MinRequests(1) of fluxgate.trippers is not a retry",
        ),
        ({"retry": None}, "payments.retry: None is no setting: leave the key out"),
        ({"tripper": "MinRequests(3)"}, "payments.tripper: MinRequests(3) fires on fast succ"),
        ({"window": "CountWindow(5)"}, "payments: MinRequests(10) is never reached"),
        ({"window": f"TimeWindow(1{'0' * 400})"}, "payments"),
        ({"listeners": "shop.rules.listener"}, "payments.listeners: 'shop.rules.listener' is not"),
        ({"listeners": ["listener"]}, "payments.listeners: 'listener' is not a dotted path"),
        ({"listeners": ["os.sep"]}, "payments.listeners: '/' can't be called"),
        ({"listeners": ["logging.Handler"]}, "payments.listeners: Handler is a class"),
        ({"result_tracker": 3}, "payments.result_tracker: 3 can't be called"),
        ({"max_half_open_calls": 0}, "payments.max_half_open_calls: must be at least 1"),
        ({"max_half_open_calls": "many"}, "payments.max_half_open_calls: must be a whole number"),
        ({"shadow": "Nothing()"}, "payments.shadow: `Nothing()`: column 1: no tripper is called"),
        ({"shadow": "MinRequests(3)"}, "payments.shadow: MinRequests(3) fires on fast successes"),
        ({"buckets": 5}, "payments.buckets: 5 is not a list of seconds"),
        ({"buckets": "fast, slow"}, "payments.buckets: must be a number of seconds, not 'fast'"),
        ({"error_messages": "yes"}, "payments.error_messages: must be True or False: 'yes'"),
        ({"probe_timeout": True}, "payments.probe_timeout: must be a number of seconds"),
        ({"initial_state": "metricsonly"}, "not 'metricsonly'; did you mean 'metrics_only'?"),
        ({"initial_state": "half_open"}, "payments.initial_state: must be one of closed, metrics"),
        ({"initial_state": 3}, "payments.initial_state: must be one of closed, metrics_only"),
        ({"clock": "time.timezone"}, "payments.clock: 0 can't be called"),
        ("Never()", "payments: 'Never()' is not a mapping of settings"),
    ],
)
@pytest.mark.usefixtures("rules")
def test_a_wrong_setting_is_named_by_its_path(settings: Any, says: str) -> None:
    assert says in complaint(build, "payments", settings)


def test_a_module_that_breaks_when_imported_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_rules.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    for settings in ({"retry": "broken_rules.R"}, {"tracker": 'TypeOf("broken_rules.E")'}):
        said = complaint(build, "payments", settings)
        assert said.startswith("payments.")
        assert "raised ZeroDivisionError: division by zero" in said


def test_all_mistakes_are_told_at_once() -> None:
    said = complaint(build, "payments", {"retry": "Nevr()", "tripper": "FailureRate(2)", "x": 1})
    assert said.startswith("3 settings can't be used:\n")
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == [
        "payments.retry",
        "payments.tripper",
        "payments.x",
    ]


def test_a_name_that_is_no_name_is_a_config_error() -> None:
    assert "name must be a str" in complaint(build, 3, {})
    assert "name must not be empty" in complaint(build, "", {})


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"nothing": 1}, Mistake.UNKNOWN),
        ({"retry": "Nothing()"}, Mistake.UNKNOWN),
        ({"retry": "Never("}, Mistake.SYNTAX),
        ({"retry": "no.such.thing"}, Mistake.IMPORT),
        ({"tracker": 'TypeOf("no.such.Error")'}, Mistake.IMPORT),
        ({"retry": "Cooldown(-1)"}, Mistake.VALUE),
    ],
)
def test_an_error_says_what_kind_of_mistake_it_is(settings: Any, mistake: Mistake) -> None:
    with pytest.raises(SettingError) as caught:
        build("payments", settings)
    error = caught.value
    assert error.mistake is mistake
    assert error.path == f"payments.{next(iter(settings))}"
    assert str(error) == f"{error.path}: {error.problem}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# -- many breakers

SHOP = """
[defaults]
retry = "Cooldown(30)"
listeners = ["shop.rules.listener"]

[breakers.payments]
tripper = "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))"
retry = "Never()"

[breakers."*.internal"]
initial_state = "metrics_only"

[breakers]
search = "shop.rules.make"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "fluxgate.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_load_reads_defaults_breakers_patterns_and_factories(
    toml: Callable[[str | bytes], Path], rules: ModuleType
) -> None:
    config = load(toml(SHOP))
    assert config.names == ("payments", "search")
    payments = config.make("payments")
    assert payments.name == "payments"
    assert payments.policy.retry == Never()
    assert payments.policy.tripper == MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))
    internal = config.make("stock.internal")
    assert internal.name == "stock.internal"
    assert internal.state is State.METRICS_ONLY
    assert internal.policy.retry == Cooldown(30)
    assert type(config.make("search")) is AsyncCircuitBreaker
    other = config.make("other")
    assert other.policy.retry == Cooldown(30)
    assert other.state is State.CLOSED
    other.force_open()
    assert [signal.circuit_name for signal in rules.heard] == ["other"]


@pytest.mark.usefixtures("rules")
def test_the_same_as_a_mapping_in_upper_case_as_django_writes_it() -> None:
    config = read(
        {
            "DEFAULTS": {"RETRY": "Cooldown(30)"},
            "BREAKERS": {
                "payments": {"TRIPPER": FailureStreak(3), "retry": "Never()"},
                "search": "shop.rules.make",
                "stock": lambda name: CircuitBreaker(name, permit=AllCalls()),
            },
        }
    )
    assert config.problems() == []
    assert config.make("payments").policy.retry == Never()
    assert config.make("payments").policy.tripper == FailureStreak(3)
    assert config.make("stock").policy.permit == AllCalls()


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("api.stripe.com", "api.stripe.com"),
        ("eu.stripe.com", "*.stripe.com"),
        (".stripe.com", "*.stripe.com"),
        ("stripe.com", None),
        ("a-1-b-2-c", "a*b*c"),
        ("ac", None),
        ("abc", "a*b*c"),
        ("abbc", "a*b*c"),
        ("abcd", None),
        ("aba", "ab*a"),
        ("ab", None),
    ],
)
def test_a_name_finds_its_own_settings_or_the_first_pattern_that_fits(
    name: str, entry: str | None
) -> None:
    breakers = {"*.stripe.com": {}, "api.stripe.com": {}, "a*b*c": {}, "ab*a": {}}
    assert Config(breakers).entry(name) == entry


@pytest.mark.parametrize("entry", ["例え.jp。", "HTTPS://例え。jp。:443/", "例え.jp．"])  # noqa: RUF001
def test_full_stops_of_other_scripts(entry: str) -> None:
    assert Config({entry: {}}).entry("https://xn--r8jz45g.jp") == entry


@pytest.mark.parametrize(
    "host", ["é" * 1_000_000, ".".join("é" * 500_000)], ids=["label", "labels"]
)
def test_hosts_that_can_not_be(host: str) -> None:
    assert Config({host: {}}).entry(host) == host


def test_a_pattern_is_matched_in_linear_time() -> None:
    config = Config({"*a" * 30 + "b": {}})
    assert config.entry("a" * 100_000) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[defaults", "it is not valid TOML: "),
        (b"\xff", "it is not UTF-8"),
        ("[breaker.payments]\nretry = 1", "fluxgate.toml: breaker: unknown, or given twice"),
        ("[breaker.payments]\nretry = 1", "did you mean 'breakers'?"),
        ("[payments]\nretry = 1", "a circuit's settings stand under its name in breakers"),
        ("defaults = 3", "fluxgate.toml: defaults: 3 is not a table"),
        ("[breakers]\npayments = 3", "fluxgate.toml: payments: 3 is neither a table of settings"),
        ("[breakers]\npayments = 'make'", "payments: 'make' is neither a table of settings nor"),
        ("[breakers]\npayments = 'no.make'", 'payments: "no.make" can\'t be imported'),
        ("[breakers]\n'' = 3", "fluxgate.toml: breakers: names are strings that are not empty"),
        ("[breakers.api.stripe.com]\nretry = 'Never()'", "needs quotes in TOML"),
        ("[defaults]\nretry = 'Nevr()'", "fluxgate.toml: defaults.retry: `Nevr()`: column 1"),
        (
            "[breakers.payments]\ntripper = 'FailureRate(1.5)'",
            "fluxgate.toml: payments.tripper: FailureRate(1.5): ratio must be in (0, 1]",
        ),
        (
            "[defaults]\nwindow = 'CountWindow(20)'\n"
            "[breakers.payments]\ntripper = 'MinRequests(50) & FailureRate(0.1)'",
            "payments: MinRequests(50) is never reached",
        ),
        ("x = " + "[" * 100_000, "it is not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_found_when_it_is_loaded(
    toml: Callable[[str | bytes], Path], text: str | bytes, says: str
) -> None:
    said = complaint(load, toml(text))
    assert says in said
    assert "fluxgate.toml" in said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = complaint(load, tmp_path / "missing.toml")
    assert "missing.toml: it can't be read (No such file or directory)" in said
    assert "it can't be read" in complaint(load, tmp_path)


def test_problems_finds_everything_and_calls_no_factory() -> None:
    config = read(
        {
            "defaults": {"permit": "Random(2)"},
            "breakers": {"a": {"x": 1}, "b": {"retry": "Nevr()"}, "c": pytest.fail},
        }
    )
    assert [problem.path for problem in config.problems()] == ["defaults.permit", "a.x", "b.retry"]


def test_reading_imports_nothing_until_a_circuit_is_made(rules: ModuleType) -> None:
    config = read({"breakers": {"a": {"retry": "shop.rules.LATER"}}})
    rules.LATER = Cooldown(7)
    assert config.make("a").policy.retry == Cooldown(7)


def test_a_mistake_is_told_each_time_and_not_kept() -> None:
    config = read({"breakers": {"a": {"retry": "Nevr()"}}})
    for _ in range(2):
        assert "a.retry" in complaint(config.make, "a")


@pytest.mark.usefixtures("rules")
def test_a_factory_must_return_a_breaker() -> None:
    config = read({"breakers": {"a": "shop.rules.make_nothing"}})
    assert "must return a breaker, not None" in complaint(config.make, "a")


def test_defaults_may_be_put_under_those_that_are_written() -> None:
    config = read({"defaults": {"RETRY": "Never()"}}).under({"retry": Always(), "permit": "All()"})
    assert config.make("a").policy.retry == Never()
    assert config.make("a").policy.permit == AllCalls()


@pytest.mark.parametrize("wrong", [3, None, ["payments"]])
def test_what_is_no_mapping_is_a_config_error(wrong: Any) -> None:
    assert "is not a mapping" in complaint(read, wrong)
