"""The one place where errors of handed-in code are reported: logger `fluxgate`."""

from __future__ import annotations


def fault(circuit: str, what: str, error: BaseException) -> None:
    """Log that `what`, which the user handed in, raised; the call it was asked about goes on."""
    import logging  # not at import: it is a third of what importing fluxgate would cost

    logging.getLogger("fluxgate").error(
        "circuit %r: %s raised %s; the call went on without it",
        circuit,
        what,
        type(error).__name__,
        exc_info=error,
    )
