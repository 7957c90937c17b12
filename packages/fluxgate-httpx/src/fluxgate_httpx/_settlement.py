"""Settlement: the end of a call whose response's body is still to come, and of its upload.

`Settlement` decides how an event stream or a body that was left counts; `_bodies` and `_urllib3`
report to it. `Upload` remembers an error that the caller's own request body raised.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from fluxgate import Attempt
from fluxgate_httpx._blame import causes

if TYPE_CHECKING:
    from fluxgate_httpx._guard import Guard


class Upload:
    """A request's body that comes from the caller's code, and the error that it raised."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.error: Exception | None = None

    def caused(self, error: BaseException) -> bool:
        """Whether `error` is, or comes from, what was raised in the caller's code."""
        return self.error is not None and any(each is self.error for each in causes(error))

    def __getattr__(self, name: str) -> Any:
        if name == "_source":  # not there yet: while it is copied
            raise AttributeError(name)
        return getattr(self._source, name)


class Settlement:
    """The end of a call whose body is still to come: whatever comes first settles it.

    A probe holds one of few slots, and a body may last for hours. So a probe that is still
    receiving when half of its `probe_timeout` is over has proved enough, and is a success then; one
    that stalls gets no such proof.

    Attributes:
        probe: whether the call is a probe: `arrived` is to be called with each piece of its body.
    """

    __slots__ = (
        "_attempt",
        "_elapsed",
        "_endless",
        "_enough",
        "_flowing",
        "_guard",
        "_response",
        "probe",
    )

    def __init__(
        self, guard: Guard, attempt: Attempt, response: Any, *, endless: bool, enough: float
    ) -> None:
        self.probe = attempt.probe
        self._guard = guard
        self._attempt = attempt
        self._elapsed = attempt.elapsed if guard.slow == "headers" else None
        self._endless = endless
        self._enough = enough
        self._flowing = False
        # Not the response itself, which holds us: one that is dropped must be found unused at
        # once, not by the garbage collector some day.
        self._response = weakref.ref(response)

    @property
    def settled(self) -> bool:
        """Whether the outcome is in."""
        return self._attempt.settled

    def arrived(self) -> None:
        """A piece of the body is there, which matters to a probe."""
        self._flowing = True
        if self.probe and not self._attempt.settled and self._attempt.elapsed >= self._enough:
            self.ended()

    def ended(self) -> None:
        """The body is there, all of it."""
        self._attempt.returned(self._response(), self._elapsed)

    def left(self) -> None:
        """The caller wants no more of it.

        Good enough for a call. No proof from a probe, but for an event stream that had events:
        such a stream has no end, so its reader leaves it.
        """
        if self._attempt.settled:
            return
        if self.probe and not (self._endless and self._flowing):
            self._attempt.ignore()
        else:
            self.ended()

    def raised(self, error: BaseException) -> None:
        """The body broke off."""
        if self._endless and self._flowing and not isinstance(error, Exception):
            # Its reader is cancelled as others leave: `cancelled_after` doesn't go by its length.
            self._attempt.raised(error, 0.0)
        else:
            self._guard.raised(self._attempt, error)
