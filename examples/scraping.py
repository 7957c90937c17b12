"""What an application's /metrics say of its circuit, fetched and read as Prometheus does it."""

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

CIRCUIT = "payments"
"""The circuit behind the orders, in both applications."""


@dataclass(frozen=True)
class Scraped:
    """The figures of one circuit, and one of their lines as it came."""

    state: str
    opened: int
    refused: int
    line: str


async def scrape(app: httpx.AsyncClient) -> Scraped:
    """Read an application's /metrics."""
    text = (await app.get("/metrics")).raise_for_status().text
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("circuit") == CIRCUIT
    ]

    def total(name: str) -> int:
        return sum(int(sample.value) for sample in samples if sample.name == name)

    states = [
        sample.labels["state"]
        for sample in samples
        if sample.name == "fluxgate_circuit_state" and sample.value == 1
    ]
    lines = [line for line in text.splitlines() if line.startswith("fluxgate_rejections_total{")]
    return Scraped(
        state=", ".join(states) or "none",
        opened=total("fluxgate_trips_total"),
        refused=total("fluxgate_rejections_total"),
        line=next((line for line in lines if f'"{CIRCUIT}"' in line), "none"),
    )
