"""A refusal as HTTP: status 503, `Retry-After`, and a body that a program can read (RFC 9457).

    try:
        breaker.call(charge, order)
    except CallNotPermittedError as error:
        problem = Problem.of(error)
        return Response(problem.json(), problem.status, problem.headers)

Nothing here knows a framework; each integration turns a `Problem` into its own response. By
default it doesn't name the circuit: what a service depends on is nobody's business but its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from fluxgate.errors import CallNotPermittedError
from fluxgate.state import State

__all__ = ["MEDIA_TYPE", "STATUS", "TITLE", "TYPE", "Problem", "refusal_in", "retry_after"]

STATUS: Final = 503
"""Service Unavailable."""
MEDIA_TYPE: Final = "application/problem+json"
"""The media type of RFC 9457."""
TYPE: Final = "urn:fluxgate:problem:circuit-open"
"""Says what kind of problem this is. It never changes: programs compare it."""
TITLE: Final = "Service temporarily unavailable"
"""The same for every refusal, as the type is."""


def retry_after(error: CallNotPermittedError) -> int | None:
    """Whole seconds for `Retry-After`, at least 1; None where nobody knows.

    Rounded up: who comes back a fraction too early is refused once more.
    """
    seconds = error.retry_after
    if seconds is None or not math.isfinite(seconds):
        return None
    return max(1, math.ceil(seconds))


def refusal_in(error: BaseException) -> CallNotPermittedError | None:
    """The refusal that `error` is, or holds as an exception group, however deep; None if none.

    Of several, the one that lasts longest: whoever comes back when another is over is refused
    again.
    """
    return max(_refusals(error), key=_lasts, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal as an HTTP client sees it.

    Attributes:
        detail: one sentence for people.
        retry_after: whole seconds after which to try again; None if nobody knows.
        circuit: the circuit's name; None unless asked for.
        type: a URI that says what kind of problem this is.
    """

    status: ClassVar[int] = STATUS
    title: ClassVar[str] = TITLE

    detail: str
    retry_after: int | None = None
    circuit: str | None = None
    type: str = TYPE

    @classmethod
    def of(
        cls,
        error: BaseException,
        *,
        show_name: bool = False,
        type: str = TYPE,  # noqa: A002
    ) -> Problem:
        """The problem that describes a refusal.

        Args:
            error: a `CallNotPermittedError`, or an exception group that holds one.
            show_name: whether to name the circuit, and to say why it opened (errors by their
                types alone, whatever `error_messages` says).
            type: a URI of your own, such as that of a page of your documentation.

        Raises:
            TypeError: there is no refusal in `error`.
        """
        refusal = refusal_in(error)
        if refusal is None:
            raise TypeError(f"there is no CallNotPermittedError in {error!r}")
        seconds = retry_after(refusal)
        return cls(
            detail=_detail(refusal, seconds, show_name),
            retry_after=seconds,
            circuit=refusal.name if show_name else None,
            type=type,
        )

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, if the time is known; the content type is the body's affair."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def as_dict(self) -> dict[str, Any]:
        """The members of the problem+json body. Members that have no value are left out."""
        members: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.retry_after is not None:
            members["retry_after"] = self.retry_after
        if self.circuit is not None:
            members["circuit"] = self.circuit
        return members

    def json(self) -> bytes:
        """The body, for `MEDIA_TYPE`: UTF-8, no line breaks."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":")).encode(
            errors="backslashreplace"
        )


def _refusals(error: BaseException) -> Iterator[CallNotPermittedError]:
    if isinstance(error, CallNotPermittedError):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _refusals(each)


def _lasts(refusal: CallNotPermittedError) -> float:
    """Seconds that a refusal lasts, as far as anybody knows; to compare with."""
    if refusal.retry_after is not None:
        return refusal.retry_after
    return 0.0 if refusal.state is State.HALF_OPEN else math.inf  # by hand, or `Never`


def _detail(refusal: CallNotPermittedError, seconds: int | None, show_name: bool) -> str:
    who, why = "A service that this request needs", ""
    if show_name:
        who = f"The circuit {refusal.name!r}"
        why = f" ({refusal.reason.without_messages.details})" if refusal.reason is not None else ""
    when = "later"
    if seconds is not None:
        when = f"in {seconds} second{'' if seconds == 1 else 's'}"
    elif refusal.state is State.HALF_OPEN:
        when = "shortly"
    state = f"is {refusal.state.replace('_', ' ')}" if show_name else "is not available"
    return f"{who} {state}{why}: try again {when}."
