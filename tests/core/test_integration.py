"""`fluxgate.integration`: settings of any shape, statuses, messages, errors beside a refusal."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, ConfigError, FluxgateError, State
from fluxgate.config import Config, SettingError
from fluxgate.integration import (
    FAILING_STATUSES,
    as_config,
    checked_statuses,
    describe,
    did_you_mean,
    log_others,
    nearest,
    raise_all,
)

RETRY = {"retry": "Cooldown(5)"}


def retry_of(config: Config, name: str) -> str:
    return repr(config.make(name).policy.retry)


class Dumping:
    """As a pydantic model: it gives what was set."""

    def model_dump(self, *, exclude_unset: bool) -> dict[str, Any]:
        assert exclude_unset
        return {"mail": RETRY}


@pytest.mark.parametrize(
    "source",
    [
        {"mail": RETRY},
        {"DEFAULTS": RETRY},
        {"defaults": {}, "mail": RETRY},
        {"breakers": {"mail": RETRY}},
        Config({"mail": RETRY}),
        SimpleNamespace(fluxgate={"mail": RETRY}),
        SimpleNamespace(fluxgate=Dumping()),
    ],
    ids=["names", "defaults", "both", "tables", "config", "object", "model"],
)
def test_settings_of_each_shape(source: Any) -> None:
    assert retry_of(as_config(source), "mail") == "Cooldown(5)"


@pytest.mark.parametrize("kind", [str, Path])
def test_settings_of_a_file(tmp_path: Path, kind: type[str | Path]) -> None:
    file = tmp_path / "fluxgate.toml"
    file.write_text('[breakers.mail]\nretry = "Cooldown(5)"\n')
    assert retry_of(as_config(kind(file)), "mail") == "Cooldown(5)"


def test_listeners_of_a_variable() -> None:
    source = SimpleNamespace(fluxgate={"mail": {"LISTENERS": '["a.b", c.d]'}})
    assert as_config(source).breakers == {"mail": {"LISTENERS": ["a.b", "c.d"]}}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (42, r"circuits= takes a mapping, .* not 42"),
        (SimpleNamespace(fluxgate=42), "SimpleNamespace needs a field fluxgate"),
        (Dumping(), "Dumping needs a field fluxgate"),
        ({"defaults": {}, "DEFAULTS": {}}, "DEFAULTS"),
        ({"breakers": {}, "mail": {}}, "mail"),
    ],
)
def test_settings_of_no_shape(source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        as_config(source, "circuits")


def test_statuses_are_plain_numbers() -> None:
    checked = checked_statuses([HTTPStatus.BAD_GATEWAY, 503])
    assert repr(sorted(checked)) == "[502, 503]"
    assert checked_statuses(FAILING_STATUSES) == {500, 502, 503, 504}


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (503, TypeError, "ignore must be a collection, .* not 503"),
        ("503", TypeError, "ignore must be a collection"),
        (["503"], TypeError, "ignore has '503', which is no status"),
        ([True], TypeError, "ignore has True"),
        ([600], ValueError, "ignore has 600"),
        ([99], ValueError, "from 100 to 599"),
    ],
)
def test_statuses_that_are_none(
    given: Iterable[object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        checked_statuses(given, "ignore")


def test_nearest_ignores_case() -> None:
    assert nearest("TIMEUOT", ["host", "timeout"]) == "timeout"
    assert nearest("timeuot", ["host", "timeout"], cutoff=0.95) is None
    assert did_you_mean("hots", ["host"]) == "; did you mean 'host'?"
    assert did_you_mean("quux", ["host"]) == ""


def test_one_problem_keeps_its_type() -> None:
    raise_all([])
    problem = SettingError("is wrong", "mail.retry")
    with pytest.raises(SettingError) as caught:
        raise_all([problem])
    assert caught.value is problem


def test_all_problems_are_raised() -> None:
    problems: list[FluxgateError] = [ConfigError("one"), FluxgateError("two")]
    with pytest.raises(ConfigError, match=r"^2 mistakes:\n  one\n  two$"):
        raise_all(problems, "mistakes")


def test_functions_have_names() -> None:
    assert describe(RETRY.get) == "dict.get"
    assert describe(42) == "42"


def test_errors_beside_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    refusal = CallNotPermittedError("mail", State.OPEN)
    log_others(refusal)
    log_others(ExceptionGroup("all refused", [refusal]))
    assert not caplog.records
    with caplog.at_level(logging.ERROR):
        log_others(ExceptionGroup("mixed", [refusal, ExceptionGroup("in", [KeyError("lost")])]))
    (record,) = caplog.records
    assert "lost" in caplog.text
    assert record.name == "fluxgate"


def test_the_core_does_not_import_it() -> None:
    code = "import fluxgate, sys; print('fluxgate.integration' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
