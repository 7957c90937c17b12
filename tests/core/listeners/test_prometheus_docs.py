"""The dashboard, the alerts and the page name the metrics that there are, and tools accept them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fluxgate import CircuitBreaker, State
from fluxgate.fleet import Fleet
from fluxgate.listeners.prometheus import PrometheusCollector
from fluxgate.trippers import FailureStreak, SlowRate

DOCS = Path(__file__).parents[3] / "docs"
SHIPPED = DOCS / "prometheus"
METRIC = re.compile(r"(?<![:\w])fluxgate_[a-z_]+")  # what a rule records has a colon
SELECTOR = re.compile(r"(?<![:\w])(fluxgate_[a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!=|=|!~)"([^"]*)"')

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on the PATH"
)


@pytest.fixture(scope="module")
def families() -> Iterator[dict[str, Any]]:
    """What a scrape shows, by family."""
    fleet = Fleet("memory://prometheus-docs")
    breaker = CircuitBreaker(
        "api",
        tripper=FailureStreak(2) | SlowRate(0.5, 1.0),
        buckets=(0.5,),
        shadow=SlowRate(1, 2),
        fleet=fleet,
    )
    registry = CollectorRegistry()
    PrometheusCollector(registry, circuits=lambda: [breaker])
    parsed = text_string_to_metric_families(generate_latest(registry).decode())
    yield {family.name: family for family in parsed}
    fleet.close()


@pytest.fixture(scope="module")
def labels(families: dict[str, Any]) -> dict[str, dict[str, set[str]]]:
    """The values of each label, by series name."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in families.values():
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return found


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((SHIPPED / "dashboard.json").read_text("utf-8"))
    return board


def rules() -> list[dict[str, Any]]:
    """The alerts, without what is recorded for them."""
    return [rule for rule in every_rule() if "alert" in rule]


def every_rule() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((SHIPPED / "alerts.yml").read_text("utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def queries(board: dict[str, Any]) -> Iterator[str]:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation["expr"]


def every_query() -> list[str]:
    return [*queries(dashboard()), *(rule["expr"] for rule in every_rule())]


def test_queries_name_series_labels_and_values_that_exist(
    labels: dict[str, dict[str, set[str]]],
) -> None:
    for query in every_query():
        names = METRIC.findall(query)
        assert names or "job_circuit:" in query
        assert set(names) <= labels.keys(), query
        for name, matchers in SELECTOR.findall(query):
            for label, how, value in MATCHER.findall(matchers):
                if label in (
                    "job",
                    "instance",
                    "circuit",
                ):  # two are Prometheus's, one is the user's
                    continue
                wanted = value.split("|") if how == "=~" else [value]
                assert set(wanted) <= labels[name][label], query


def test_every_metric_is_on_the_dashboard(labels: dict[str, Any]) -> None:
    shown = {name for query in queries(dashboard()) for name in METRIC.findall(query)}
    unshown = {
        "fluxgate_circuit_state": "its severity is the same in one series",
        "fluxgate_call_duration_distribution_seconds_count": "counted by the summary, too",
        "fluxgate_call_duration_distribution_seconds_sum": "summed by the summary, too",
    }
    assert labels.keys() - shown <= unshown.keys()


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    board = dashboard()
    assert isinstance(board["title"], str)
    assert isinstance(board["uid"], str)
    assert len(board["uid"]) <= 40
    assert board["schemaVersion"] >= 36
    assert board.get("id") is None  # one that has an id replaces whatever has it
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    own = {"type": "prometheus", "uid": "${datasource}"}
    for variable in variables.values():
        assert variable["type"] == "datasource" or variable["datasource"] == own
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == own
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"] == own
            assert 'job=~"$job", instance=~"$instance"' in target["expr"]


def test_rows_are_by_job_and_circuit() -> None:
    """Two services may each have a circuit of one name."""
    for query in queries(dashboard()):
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
            assert ("circuit" in labels) <= ("job, circuit" in labels), query


def test_the_dashboard_names_the_states_by_their_severity() -> None:
    (panel,) = (panel for panel in dashboard()["panels"] if panel["title"] == "State")
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    shown = {int(number): option["text"] for number, option in mapping["options"].items()}
    registry = CollectorRegistry()
    breakers = []
    PrometheusCollector(registry, circuits=lambda: breakers)
    for state in State:
        breaker = CircuitBreaker("api", initial_state=state) if state in INITIAL else opened(state)
        breakers[:] = [breaker]
        number = registry.get_sample_value("fluxgate_circuit_severity", {"circuit": "api"})
        assert number is not None
        assert shown.pop(int(number)) == state
    assert not shown


INITIAL = (State.CLOSED, State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN)


def opened(state: State) -> CircuitBreaker:
    now = 0.0
    breaker = CircuitBreaker("api", clock=lambda: now, dice=lambda: 0.0)
    breaker.open_for(1.0)
    if state is State.HALF_OPEN:
        now = 1.0
        breaker.attempt().ignore()
    assert breaker.state is state
    return breaker


def test_alerts_say_what_is_wrong_and_how_bad() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert "{{ $labels.job }}" in rule["annotations"]["summary"]


def test_every_alert_has_a_test_and_a_paragraph() -> None:
    tests = yaml.safe_load((SHIPPED / "alerts.test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    names = {rule["alert"] for rule in rules()}
    assert fired == names
    page = (DOCS / "operate" / "metrics.md").read_text("utf-8")
    assert not {name for name in names if f"`{name}`" not in page}


def test_every_metric_is_explained_with_its_type(families: dict[str, Any]) -> None:
    page = (DOCS / "operate" / "metrics.md").read_text("utf-8")
    page = page.split("### Every metric")[1].split("\n### ")[0]
    rows = dict(re.findall(r"^\| `(fluxgate_[a-z_]+)`[^|]*\| (\w+) \|", page, re.MULTILINE))
    told = {
        name + "_total" if family.type == "counter" else name: family.type
        for name, family in families.items()
    }
    assert rows == told


def test_the_page_names_no_metric_that_is_not_there(labels: dict[str, Any]) -> None:
    prometheus = (DOCS / "operate" / "metrics.md").read_text("utf-8").split("\n## OpenTelemetry")[0]
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in labels}
    assert set(METRIC.findall(prometheus)) <= labels.keys() | families | {"fluxgate_fastapi"}


@needs_promtool
def test_promtool_accepts_the_alerts() -> None:
    promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_promtool_finds_the_alerts_right() -> None:
    promtool("test", "rules", "alerts.test.yml")


@needs_promtool
def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """As recording rules, with Grafana's variables filled in."""
    filled = {
        "$__rate_interval": "5m",
        "$__range": "1h",
        "$job": ".*",
        "$instance": ".*",
        "$circuit": ".*",
    }
    records = []
    for number, query in enumerate(queries(dashboard())):
        for variable, value in filled.items():
            query = query.replace(variable, value)
        assert "$" not in query
        records.append({"record": f"query:{number}", "expr": query})
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", str(path))


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=SHIPPED, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
