"""`Recorder`: a listener that writes calls to a file, which `read()` makes a trace of."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import IO, Any

from fluxgate._naming import encodable, safe_repr
from fluxgate._values import count_in_range
from fluxgate.listeners._background_queue import BackgroundQueue, report
from fluxgate.listeners._options import count, seconds
from fluxgate.signals import Call, Signal

__all__ = ["Recorder"]


class Recorder:
    """Records calls: a line of JSON each, written by a thread in the background.

    The file is bounded. When it has `max_bytes`, recording stops, which is logged once. When the
    file is renamed or deleted, as logrotate does, recording goes on in a new one. Processes may
    write the same file: each line is of one process, and whole.

    No call ever waits for it, or fails by it: what comes too fast is dropped and counted, what
    can't be written (a full disk) is logged and dropped. It has `call_ended`, so each call of the
    circuits that it hears takes the circuit's lock.

    Example:
        recorder = Recorder("calls.jsonl", share=0.1)
        with fluxgate.listen(recorder):
            serve()

    Args:
        path: the file; lines are added if it exists. Its folder must exist.
        share: the share of the calls to record (ratio 0-1), chosen by chance. The file
            says it, and a replay scales its counts by it.
        max_bytes: the size at which recording stops, 1,000 or more. A call takes some 120 bytes.
        maxsize: calls that may wait to be written, twice over.
        exit_timeout: seconds that the end of the process is put off, at most, for what is queued.

    Raises:
        TypeError: an option is of the wrong kind.
        ValueError: an option is out of range, or the path is a folder or in none.
    """

    __slots__ = ("__weakref__", "_dice", "_file", "_queue", "_share")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        share: float = 1.0,
        max_bytes: int = 256 * 2**20,
        maxsize: int = 20_000,
        exit_timeout: float = 5.0,
    ) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(f"share must be a ratio above 0 and at most 1: {safe_repr(share)}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be a ratio above 0 and at most 1, not {share!r}")
        where = Path(path)
        if where.is_dir():
            raise ValueError(f"path must be a file, and {str(where)!r} is a folder")
        if not where.absolute().parent.is_dir():
            raise ValueError(f"path must be in a folder that exists: {str(where)!r}")
        count_in_range("max_bytes", max_bytes, most=2**50)
        if max_bytes < 1000:
            raise ValueError(f"max_bytes must be 1,000 or more, not {max_bytes!r}")
        self._share = float(share)
        self._dice = random.Random()
        self._file = _File(where, max_bytes, self._share)
        self._queue = BackgroundQueue(
            f"Recorder({str(where)!r})",
            self._file.close,
            count("maxsize", maxsize, least=1) * 2,  # calls take up half of a queue at most
            seconds("exit_timeout", exit_timeout),
            self._file.write,
        )

    def __call__(self, signal: Signal) -> None:
        """Nothing: a replay makes the transitions anew."""

    def call_ended(self, call: Call) -> None:
        """Queue a call; never waits."""
        if self._share < 1 and self._dice.random() >= self._share:
            return
        self._queue.offer((self._file.write, call, call.circuit_name))

    @property
    def dropped(self) -> int:
        """How many calls were dropped since they came too fast."""
        return self._queue.dropped

    @property
    def written(self) -> int:
        """How many calls this process has written."""
        return self._file.written

    @property
    def stopped(self) -> bool:
        """Whether the file is as large as it may be, so that nothing more is recorded."""
        return self._file.full

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that is queued now has been written; not on an event loop.

        Args:
            timeout: seconds, 0 or more.

        Returns:
            Whether it was written in time.
        """
        return self._queue.wait(self._queue.marker(), seconds("timeout", timeout))

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is queued, close the file, and let the thread end.

        Nothing is lost if a call comes later: it starts a new thread.

        Args:
            timeout: seconds to wait for it, 0 or more.

        Returns:
            Whether it was done in time.
        """
        return self._queue.wait(self._queue.marker(stop=True), seconds("timeout", timeout))

    def __repr__(self) -> str:
        return f"Recorder({str(self._file.path)!r}, share={self._share!r})"


class _File:
    """The file of a recording, used by the one thread that writes it."""

    def __init__(self, path: Path, max_bytes: int, share: float) -> None:
        self.path = path
        self.written = 0
        self.full = False
        self._max_bytes = max_bytes
        self._share = share
        self._opened: IO[bytes] | None = None
        self._process = 0

    def write(self, calls: list[Call]) -> None:
        """Add a line for each call. Raises `OSError` where that fails: they are lost."""
        file = self._ready()
        if self.full:  # a shorter call might still have room, and its neighbours not
            return
        room = self._max_bytes - os.fstat(file.fileno()).st_size
        lines: list[bytes] = []
        process = os.getpid()
        for call in calls:
            line = _line(call, process)
            if len(line) > room:
                self._stop()
                break
            room -= len(line)
            lines.append(line)
        if lines:
            # In one write, so that lines of other processes come before or after, not between.
            file.write(b"".join(lines))
            self.written += len(lines)

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _stop(self) -> None:
        if not self.full:
            self.full = True
            report(
                f"Recorder({str(self.path)!r})",
                f"the file has its {self._max_bytes:,} bytes: recording stops until it is renamed "
                "or deleted",
            )

    def _ready(self) -> IO[bytes]:
        """The file under the path: another one since it was rotated, or in a forked child."""
        if self._opened is not None and (self._process != os.getpid() or not self._is_there()):
            self.close()
        if self._opened is None:
            # Unbuffered, and at the end whoever else writes.
            self._opened = self.path.open("ab", buffering=0)
            self.full = False
            self._process = os.getpid()
            header = {"recording": 1, "share": self._share, "process": self._process}
            line = json.dumps(header).encode() + b"\n"
            if os.fstat(self._opened.fileno()).st_size + len(line) <= self._max_bytes:
                self._opened.write(line)
        return self._opened

    def _is_there(self) -> bool:
        assert self._opened is not None
        try:
            return os.path.samestat(os.fstat(self._opened.fileno()), self.path.stat())
        except OSError:
            return False


def _line(call: Call, process: int) -> bytes:
    took = call.duration
    record: dict[str, Any] = {
        "start": round(call.timestamp - (took or 0.0), 6),
        "duration": None if took is None else round(took, 6),
        "outcome": str(call.outcome),
        "circuit": encodable(call.circuit_name),
        "process": process,
    }
    if call.error is not None:
        record["error"] = encodable(call.error)
    if call.probe:
        record["probe"] = True
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
