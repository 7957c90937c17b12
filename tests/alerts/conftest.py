"""Run by the session `alerts`, which needs Prometheus; the other sessions don't look in here."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("FLUXGATE_ALERTS") else ["test_*.py"]
