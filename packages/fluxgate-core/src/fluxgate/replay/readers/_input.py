"""Input of the text formats: gz or not, in lines of bounded length, whatever bytes are in them."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final, cast

from fluxgate.replay.readers._row import TraceError, Unusable

LONGEST_LINE: Final = 16 * 2**20
"""Bytes of a line. A collector's file exporter writes a batch of spans as one."""
LARGEST_DOCUMENT: Final = 512 * 2**20
"""Bytes of a format that is one document (HAR), which has to be in memory as a whole."""
_HEAD: Final = 256 * 2**10


class Input(AbstractContextManager["Input"]):
    """A file or the standard input, opened for reading.

    Args:
        source: a path; `-` is the standard input.

    Attributes:
        name: the source, for messages.
        path: the file; None for the standard input.
        zipped: whether it is compressed by gzip.
        head: its first bytes, uncompressed.

    Raises:
        TraceError: there is nothing in it, it is a folder, or no file can have that name.
        OSError: it can't be opened.
    """

    def __init__(self, source: str | Path) -> None:
        self.path = None if str(source) == "-" else Path(source)
        self.name = "standard input" if self.path is None else str(source)
        try:
            if self.path is not None and self.path.is_dir():
                raise TraceError(f"{self.name} is a folder: name a file in it")
            self._file: IO[bytes] = sys.stdin.buffer if self.path is None else self.path.open("rb")
        except TraceError:
            raise
        except ValueError:  # NUL, or what the file system's encoding lacks
            raise TraceError(f"no file can have the name {self.name!r}") from None
        # A buffer that can be looked into: the standard input can't be read twice.
        stream = io.BufferedReader(cast("io.RawIOBase", self._file), _HEAD)
        self.zipped = stream.peek(2).startswith(b"\x1f\x8b")
        if self.zipped:
            unzipped = cast("io.RawIOBase", gzip.GzipFile(fileobj=stream))
            stream = io.BufferedReader(unzipped, _HEAD)
        self._stream = stream
        try:
            self.head = stream.peek(_HEAD)
        except (EOFError, OSError, zlib.error) as error:
            self.close()
            raise TraceError(f"{self.name} can't be unpacked: {error}") from None
        if not self.head.strip(b"\xef\xbb\xbf\r\n\t "):
            self.close()
            raise TraceError(f"{self.name} is empty")

    def lines(self) -> Iterator[str | Unusable]:
        """The lines that aren't blank; what is too long for one is skipped and reported."""
        readline = self._stream.readline
        first = True
        while True:
            try:
                line = readline(LONGEST_LINE + 1)
                if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
                    while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
                        line = readline(LONGEST_LINE + 1)
                    yield Unusable(f"the line is longer than {LONGEST_LINE >> 20} MiB")
                    continue
            except (EOFError, zlib.error, gzip.BadGzipFile):
                yield Unusable("the gz file breaks off, or is damaged, here")
                return
            if not line:
                return
            if first:
                line, first = line.removeprefix(b"\xef\xbb\xbf"), False
            if not line.isspace():
                yield line.decode("utf-8", "backslashreplace")

    def document(self) -> str:
        """All of it.

        Raises:
            TraceError: it is too large, or can't be unpacked.
        """
        try:
            whole = self._stream.read(LARGEST_DOCUMENT + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TraceError(f"{self.name} can't be unpacked: {error}") from None
        if len(whole) > LARGEST_DOCUMENT:
            raise TraceError(f"{self.name} is one document of more than 512 MiB: split it")
        return whole.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Close the file; the standard input stays open."""
        if self.path is not None:
            self._file.close()

    def __exit__(self, *exc_info: object) -> None:
        self.close()
