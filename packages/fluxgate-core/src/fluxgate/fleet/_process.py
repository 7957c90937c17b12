"""The name of this process in a fleet: readable, short, and not another's."""

from __future__ import annotations

import os
import secrets
import socket


def new_name() -> str:
    """A new name: the host's, the process id, and four random digits."""
    host = "".join(c for c in socket.gethostname().partition(".")[0] if c.isalnum() or c in "-_")
    return f"{host[:16] or 'host'}:{os.getpid()}:{secrets.token_hex(2)}"
