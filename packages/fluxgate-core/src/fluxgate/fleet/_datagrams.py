"""Pushes between the processes of one host: a Unix datagram socket each, in one folder.

Whoever moves a circuit sends a datagram to every socket in the folder. A socket whose owner is
gone refuses it (ECONNREFUSED) and is removed. One whose owner does not read is skipped: it reads
all circuits once a message was lost, since the store is the truth.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import weakref
from contextlib import suppress
from pathlib import Path

from fluxgate.fleet.store import MAX_EPOCH, Hint

_LONGEST = 512  # bytes of a datagram


class Datagrams:
    """The sockets of one folder, and this process's own among them.

    Args:
        folder: where they are; made if need be.
        name: this process's; no two may have the same.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = f"{name.replace(':', '-')}.sock"
        self._socket: socket.socket | None = None
        self._awake = os.pipe()
        # Not in `close`: the thread that waits may look at it once more.
        self._close_pipe = weakref.finalize(self, _close_all, self._awake)
        self._close_pipe.atexit = False

    def open(self) -> bool:
        """Whether this process now listens; True if it has begun with this call."""
        if self._socket is not None and (self._folder / self._name).exists():
            return False
        self._hang_up()
        self._folder.mkdir(exist_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listening.setblocking(False)
            with _Short(self._folder) as short:
                listening.bind(f"{short}/{self._name}")
        except BaseException:
            listening.close()
            raise
        self._socket = listening
        return True

    def wait(self, timeout: float) -> list[Hint]:
        """The hints that have come, waiting for the first one."""
        listening = self._socket
        assert listening is not None
        descriptor, awake = listening.fileno(), self._awake[0]
        poll = select.poll()  # select() takes no descriptor above 1023, and busy servers have more
        poll.register(descriptor, select.POLLIN)
        poll.register(awake, select.POLLIN)
        ready = {each for each, _ in poll.poll(timeout * 1000.0)}
        if self._socket is not listening:  # closed, and its numbers may be another file's by now
            return []
        if awake in ready:
            os.read(awake, 4096)
        hints: list[Hint] = []
        if descriptor in ready:
            with suppress(OSError):  # nothing more to read; or closed by now
                while len(hints) < 1000:
                    hint = read_hint(listening.recv(_LONGEST))
                    if hint is not None:
                        hints.append(hint)
        return hints

    def wake(self) -> None:
        """End a `wait` that is going on."""
        os.write(self._awake[1], b".")

    def send(self, hint: Hint) -> None:
        """Send a hint to every socket of the folder; who can't be reached is not waited for."""
        data = write_hint(hint)
        with (
            suppress(OSError),
            _Short(self._folder) as short,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending,
        ):
            sending.setblocking(False)
            for name in os.listdir(self._folder):
                if name.endswith(".sock"):
                    self._send_to(sending, f"{short}/{name}", data)

    def close(self) -> None:
        """Take this process's socket away."""
        if self._socket is not None:
            with suppress(OSError):
                (self._folder / self._name).unlink()
        self._hang_up()

    def drop(self) -> None:
        """Close the parent's file descriptors in a child, and leave its socket where it is."""
        self._hang_up()
        self._close_pipe()

    def _hang_up(self) -> None:
        listening, self._socket = self._socket, None
        if listening is not None:
            listening.close()

    def _send_to(self, sending: socket.socket, path: str, data: bytes) -> None:
        try:
            sending.sendto(data, path)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                with suppress(OSError):
                    os.unlink(path)


def _close_all(descriptors: tuple[int, int]) -> None:
    for each in descriptors:
        os.close(each)


class _Short:
    """A short path of a folder: that of a socket may have about a hundred bytes, no more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_RDONLY)
        short = f"/proc/self/fd/{self._fd}"
        return short if os.path.exists(short) else str(self._folder)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def write_hint(hint: Hint) -> bytes:
    """A hint as it travels."""
    return f"1 {hint.key} {hint.epoch} {hint.author}".encode()


def read_hint(data: bytes) -> Hint | None:
    """A hint from what has come; None if it isn't one."""
    try:
        version, key, epoch, author = data.decode("ascii").split(" ")
        number = int(epoch) if len(epoch) <= 16 else -1
    except ValueError:
        return None
    if version != "1" or not key or not 0 < number <= MAX_EPOCH:
        return None
    return Hint(key, number, author)
