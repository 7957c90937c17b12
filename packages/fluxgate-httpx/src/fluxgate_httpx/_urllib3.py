"""urllib3's responses, watched where they are: a body's end settles its call.

`response.raw` of requests is the caller's: people set its attributes, copy it, and read it in a
dozen ways. So it stays urllib3's own object, and only its class changes, to a subclass that watches
the few methods through which every way of reading goes; once the call is settled, it changes back.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import urllib3.exceptions
from urllib3.response import HTTPResponse

from fluxgate_httpx._settlement import Settlement, Upload

_SETTLEMENTS: Final = "_fluxgate_settlements"
"""The attribute of a watched response: its calls, more than one where adapters are nested."""


def watch(raw: object, settlement: Settlement) -> bool:
    """Settle a call by the end of a body; False where that can't be seen.

    Args:
        raw: a response's `raw`, whatever it is.
        settlement: the end of the call.
    """
    if not isinstance(raw, HTTPResponse):
        return False
    settlements: list[Settlement] | None = vars(raw).get(_SETTLEMENTS)
    if settlements is not None:
        settlements.append(settlement)
        return True
    try:
        raw.__class__ = _watched(type(raw))
    except TypeError:  # a class with slots of its own
        return False
    setattr(raw, _SETTLEMENTS, [settlement])
    return True


def _release(raw: Any, base: type) -> None:
    """Make it an ordinary response again, if all calls are settled."""
    attributes: dict[str, Any] = raw.__dict__
    settlements: Sequence[Settlement] = attributes.get(_SETTLEMENTS, ())
    if all(each.settled for each in settlements) and attributes.pop(_SETTLEMENTS, None) is not None:
        raw.__class__ = base


@functools.cache
def _watched(base: Any) -> Any:
    """A subclass of a response's class that settles calls.

    Only public methods are watched. The others (`readinto`, `readline`, `stream`, iteration,
    `data`, `json`) read by them.
    """

    # It calls `base` by name, not super(): a bound method outlives the change of class.
    class Watched(base):  # type: ignore[misc]
        def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
            read = functools.partial(base.read, self, amt, *args, **kwargs)
            return _observed(self, base, read, amt)

        def read1(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
            read = functools.partial(base.read1, self, amt, *args, **kwargs)
            # Without a number it gives what is there: only nothing at all is the end.
            return _observed(self, base, read, 1 if amt is None or amt < 0 else amt)

        def read_chunked(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            settlements: list[Settlement] = list(vars(self).get(_SETTLEMENTS, ()))
            pieces = base.read_chunked(self, *args, **kwargs)
            try:
                for piece in pieces:
                    for each in settlements:
                        each.arrived()
                    yield piece
            except GeneratorExit:
                for each in settlements:
                    each.left()
                raise
            except BaseException as error:
                for each in settlements:
                    each.raised(error)
                raise
            finally:
                _release(self, base)
            for each in settlements:
                each.ended()
            _release(self, base)

        def drain_conn(self) -> None:
            _observed(self, base, functools.partial(base.drain_conn, self), None)

        def close(self) -> None:
            if not vars(self).get("_finalizing"):  # io closes what is dropped: nobody left it
                for each in vars(self).get(_SETTLEMENTS, ()):
                    each.left()
                _release(self, base)
            base.close(self)

        def __copy__(self) -> Any:
            clone = base.__new__(base)
            clone.__dict__.update(self.__dict__)
            clone.__class__ = type(self)
            return clone

        def __reduce_ex__(self, protocol: Any) -> Any:
            """Pickle it as what it is without us."""
            _, _, *state = base.__reduce_ex__(self, protocol)
            if state and isinstance(state[0], dict):
                attributes: dict[str, Any] = dict(state[0])  # pyright: ignore[reportUnknownArgumentType]
                attributes.pop(_SETTLEMENTS, None)
                state[0] = attributes
            return _new, (base,), *state

    for method in (
        "read1",
        "read_chunked",
        "drain_conn",
    ):  # urllib3 has some of them since its version 2
        if not hasattr(base, method):
            delattr(Watched, method)
    Watched.__name__, Watched.__qualname__ = base.__name__, base.__qualname__
    Watched.__module__, Watched.__doc__ = base.__module__, base.__doc__
    return Watched


def _new(kind: Any) -> Any:
    """An empty object, for pickle, which insists on an object's own class otherwise."""
    return kind.__new__(kind)


def _observed(raw: Any, base: type, read: Callable[[], bytes], amount: int | None) -> bytes:
    """Read, and settle by what came of it."""
    settlements: list[Settlement] = raw.__dict__.get(_SETTLEMENTS, [])
    try:
        data = read()
    except BaseException as error:
        for each in settlements:
            each.raised(error)
        _release(raw, base)
        raise
    whole = amount is None or amount < 0
    if whole or raw.closed or (amount and not data):
        missing = raw.length_remaining
        for each in settlements:
            if missing:  # some ways of reading end early without an error
                each.raised(urllib3.exceptions.ProtocolError(f"{missing} bytes are missing"))
            else:
                each.ended()
        _release(raw, base)
    else:
        for each in settlements:
            each.arrived()
    return data


class _FileUpload(Upload):
    """A file that is sent; what it raises is the caller's."""

    def read(self, *args: Any) -> Any:
        """Read from the file."""
        try:
            return self._source.read(*args)
        except Exception as error:
            self.error = error
            raise


class _IterableUpload(Upload):
    """Pieces that are sent; what their source raises is the caller's."""

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._source
        except Exception as error:
            self.error = error
            raise


def upload_of(body: Any) -> Upload | None:
    """A request's body in a wrapper that notes its errors; None if reading it runs no code."""
    if body is None or isinstance(body, (str, bytes, bytearray, memoryview, io.TextIOBase)):
        return None  # text files must be seen as such, to be encoded
    if hasattr(body, "read"):
        return _FileUpload(body)
    return _IterableUpload(body) if hasattr(body, "__next__") else None
