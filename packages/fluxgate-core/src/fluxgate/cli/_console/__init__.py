"""The command `python -m fluxgate console`."""
