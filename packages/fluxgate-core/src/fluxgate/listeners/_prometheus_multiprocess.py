"""Prometheus's multiprocess mode: a thread that writes this process's metrics to files.

In that mode of prometheus-client each process has files of its own, and the process that is scraped
reads the files of all. Collectors are not asked there, so a thread writes what one would return.

Processes fork. The thread is stopped before a fork and started after it, in parent and child, so
that no process forks with a thread in the middle of a write. A process that has forked and made no
call is taken for a supervisor, whose circuits serve no requests: they are not shown. A child, in
turn, is shown from its first call on, since not every child is a worker.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from math import inf
from time import monotonic, sleep
from typing import Any, Final, cast

from prometheus_client import values

from fluxgate.listeners._aggregate import Reader
from fluxgate.listeners._options import seconds
from fluxgate.listeners._prometheus_families import (
    FAMILIES,
    FLEET_FAMILIES,
    UNREADABLE,
    Family,
    Part,
    R,
)

PAUSE: Final = 0.1
"""Seconds between two writes at least, however many transitions there are."""
PATIENCE: Final = 1.0
"""Seconds to wait for the thread: a reading may call listeners, which may take long."""

Key = tuple[str, str, str, tuple[str, ...]]

_writers: Final[set[Writer]] = set()
_series: Final[dict[Key, _Series]] = {}
"""The series in this process's files. A second writer goes on with those of the first."""


def in_multiprocess_mode() -> bool:
    """Whether prometheus-client keeps its values in files; it decides when it is imported."""
    return bool(getattr(cast(Any, values).ValueClass, "_multiprocess", False))


class _Series:
    """One series in this process's files."""

    __slots__ = ("_base", "_last", "_value", "kind", "name")

    def __init__(self, family: Family[R], name: str, part: Part) -> None:
        suffix, labels, _ = part
        named = (family.subject, *(family.labels or ("le",)))[: 1 + len(labels)]
        self.kind = family.kind
        self.name = name
        self._value = cast(Any, values).ValueClass(
            family.kind,
            family.name,
            family.name + suffix,
            named if name else (),
            (name, *labels) if name else (),
            family.help,
            multiprocess_mode=family.across,
        )
        self._last = self._value.get()
        # An earlier process with this process's number may have left its counts.
        self._base = 0.0 if family.kind == "gauge" else self._last

    def set(self, value: float) -> None:
        value += self._base
        if value != self._last:
            self._value.set(value)
            self._last = value


class Writer:
    """Writes readings to this process's files, each `interval` seconds and when it is woken.

    Raises:
        TypeError: `interval` is not a number.
        ValueError: `interval` is out of range.
    """

    def __init__(self, reader: Reader, interval: float) -> None:
        self._reader = reader
        self._interval = seconds("interval", interval, above_zero=True)
        self._forked = False
        self._inherited = False
        self._restart()

    def _restart(self) -> None:
        self._lock = threading.Lock()
        # Signal handlers may use it. Made where it is used: gevent may exchange the class late.
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._written: dict[Key, _Series] = {}
        self._used = False
        self._failing = False

    # -- the thread

    def start(self) -> None:
        """Write now, and from now on."""
        _follow_forks()
        _writers.add(self)
        atexit.register(self.close)
        self._write_or_log()
        self._run()

    def wake(self) -> None:
        """Have the thread write soon. Never waits."""
        if self._wakes.empty():
            self._wakes.put(True)

    def close(self) -> None:
        """Write a last time: the counts stay, the states go."""
        atexit.unregister(self.close)
        _writers.discard(self)
        self._halt()
        self._write_or_log(ending=True)

    def _run(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="fluxgate-prometheus", daemon=True)
        self._thread.start()

    def _halt(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            self._wakes.put(False)
            thread.join(PATIENCE)

    def _loop(self) -> None:
        wakes, wrote, due = self._wakes, -inf, monotonic()
        while True:
            left = due - monotonic()
            if left <= 0:
                self._write_or_log()
                wrote = monotonic()
                due = wrote + self._interval
                continue
            try:
                going_on = wakes.get(timeout=left)
            except queue.Empty:
                continue
            if not going_on:
                return
            due = min(due, wrote + PAUSE)

    def before_fork(self) -> None:
        """Stop the thread: a child must not find its locks taken."""
        self._halt()

    def after_fork(self, *, child: bool) -> None:
        """Go on: in the child with nothing counted and files of its own."""
        self._forked = True
        if child:
            self._inherited = True
            self._restart()
        self._run()

    # -- the files

    def _write_or_log(self, *, ending: bool = False) -> None:
        try:
            self.write(ending=ending)
            self._failing = False
        except Exception:
            if not self._failing:  # once, until one succeeds
                import logging

                logging.getLogger("fluxgate").exception(
                    "the metrics of process %s could not be written", os.getpid()
                )
            self._failing = True

    def write(self, *, ending: bool = False) -> None:
        """Bring the files up to date, unless another thread has been at it for `PATIENCE`."""
        deadline = monotonic() + PATIENCE
        while self._lock.locked():
            if monotonic() > deadline:
                return
            sleep(0.01)
        with self._lock:  # no acquire(timeout=): an interrupt just after it would leave it taken
            self._write(ending)

    def _write(self, ending: bool) -> None:
        readings = self._reader.read()
        self._used = self._used or any(
            reading.totals.settled or reading.totals.rejected for reading in readings
        )
        if self._inherited and not self._used:
            return
        shown = not ending and (self._used or not self._forked)
        before, self._written = self._written, {}
        fleets = self._reader.fleets
        self._put_all(FAMILIES, readings, shown)
        self._put_all(FLEET_FAMILIES, fleets, shown)
        self._put(UNREADABLE, "", ("", (), self._reader.unreadable), shown)
        living = {reading.name for reading in readings}
        for key in before.keys() - self._written.keys():
            gone = before[key]
            # The states of circuits that were collected, and buckets that others include now.
            if gone.kind == "gauge" or (gone.kind == "histogram" and gone.name in living):
                gone.set(0.0)

    def _put_all(self, families: tuple[Family[R], ...], readings: list[R], shown: bool) -> None:
        for family in families:
            for reading in readings:
                for part in _parts(family, reading):
                    self._put(family, reading.name, part, shown)

    def _put(self, family: Family[R], name: str, part: Part, shown: bool) -> None:
        suffix, labels, value = part
        key = (family.name, suffix, name, labels)
        series = _series.get(key)
        if series is None:
            series = _series[key] = _Series(family, name, part)
        self._written[key] = series
        series.set(value if shown or family.kind != "gauge" else 0.0)


def _parts(family: Family[R], reading: R) -> Iterable[Part]:
    """The series as the files have them: a histogram's buckets one by one, not cumulative."""
    return _buckets(family.parts(reading)) if family.kind == "histogram" else family.parts(reading)


def _buckets(parts: Iterable[Part]) -> Iterator[Part]:
    before = 0.0
    for suffix, labels, value in parts:
        if suffix == "_bucket":
            yield suffix, labels, value - before
            before = value
        elif suffix == "_sum":  # the count is derived from the buckets
            yield suffix, labels, value


def _follow_forks() -> None:
    global _following
    if not _following and hasattr(os, "register_at_fork"):  # not on Windows
        _following = True
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )


_following = False


def _before_fork() -> None:
    for writer in list(_writers):
        writer.before_fork()


def _after_in_parent() -> None:
    for writer in list(_writers):
        writer.after_fork(child=False)


def _after_in_child() -> None:
    _series.clear()
    for writer in list(_writers):
        writer.after_fork(child=True)
