"""Blame: whether an error is the host's or this machine's, where its type doesn't show it.

Clients wrap what went wrong in errors of their own, sometimes twice. So it is looked for among the
causes of an error, which only a failing call pays for.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Final, cast

_OURS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""Error numbers of exhausted local resources: file descriptors, buffers, memory, ports."""
_HTTP2: Final = frozenset({"h2", "hpack", "hyperframe"})
"""The packages that speak HTTP/2 for httpx; they are not imported here, as they may be missing."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and everything that it was made of.

    That is its `__cause__`, errors among its arguments, urllib3's `reason`, and a group's members.
    Not its `__context__`: that may be what an `except` block handles in which the call was made.
    """
    left, seen = [error], set[int]()
    while left:
        each: Any = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        found: list[Any] = [each.__cause__, getattr(each, "reason", None), *each.args]
        if isinstance(each, BaseExceptionGroup):
            found += each.exceptions  # pyright: ignore[reportUnknownMemberType]
        left += [one for one in found if isinstance(one, BaseException)]


def is_local(error: BaseException) -> bool:
    """Whether this machine is at fault: it had no file descriptor, port or memory left."""
    return any(isinstance(each, OSError) and each.errno in _OURS for each in causes(error))


def is_violation(error: BaseException) -> bool:
    """Whether a server broke the rules of HTTP/2.

    h2 raises the same classes for what we send and for what we receive, and httpx calls both a
    `LocalProtocolError` while it waits for headers, or lets h2's own through from within a body.
    Only the traceback shows it: what was received went through `receive_data`.
    """
    return any(
        type(each).__module__.partition(".")[0] in _HTTP2 and _was_received(each)
        for each in causes(error)
    )


def _was_received(error: BaseException) -> bool:
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = cast("str", traceback.tb_frame.f_globals.get("__name__", ""))
        if code.co_name == "receive_data" and module.startswith("h2."):
            return True
        traceback = traceback.tb_next
    return False
