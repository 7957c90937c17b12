"""The one place where trouble with what users handed in is reported: logger `fluxgate`.

Reporting never raises: a log handler that does must not stand in for the caller's own result.
"""

from __future__ import annotations


def fault(circuit: str, what: str, error: BaseException) -> None:
    """Log that `what` raised `error`; the call that it was asked about goes on."""
    kind = type(error).__name__
    _log(circuit, f"{what} raised {kind}; the call went on without it", error)


def warn(circuit: str, sentence: str) -> None:
    """Log what somebody should look into."""
    _log(circuit, sentence, None)


def _log(circuit: str, sentence: str, error: BaseException | None) -> None:
    import logging  # not at import: it is a third of what importing fluxgate would cost

    try:
        level = logging.WARNING if error is None else logging.ERROR
        logging.getLogger("fluxgate").log(
            level, "circuit %r: %s", circuit, sentence, exc_info=error
        )
    except Exception:  # nowhere left to tell it
        return
