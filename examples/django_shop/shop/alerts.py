"""Who is told when a circuit changes its state: here, the log."""

from fluxgate.listeners import LogListener

listener = LogListener()
