"""Recordings of `fluxgate.replay.Recorder`: a header, then a line of JSON for each call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fluxgate.replay._trace import number
from fluxgate.replay.readers._row import Found, Row, Share, Skipped
from fluxgate.signals import Outcome


def is_recording(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a recording."""
    return "recording" in record or ("circuit" in record and "outcome" in record)


def rows(record: Mapping[str, Any]) -> Iterator[Found]:
    """The call of one line."""
    if "recording" in record:  # each process that opens the file writes a header
        share = number(record.get("share"))
        if share is not None and 0 < share <= 1:
            yield Share(share)
        return
    outcome = record.get("outcome")
    if outcome in (Outcome.IGNORED, Outcome.CANCELLED):
        yield Skipped(f"the call was {outcome}: it moves nothing")
        return
    refused = outcome == Outcome.REJECTED
    known = outcome in (Outcome.SUCCESS, Outcome.FAILURE)
    yield Row(
        record.get("start"),
        record.get("duration"),
        failed=outcome == Outcome.FAILURE if known or refused else "unknown",
        key=record.get("circuit"),
        error=record.get("error"),
        refused=refused,
        fields=record,
    )
