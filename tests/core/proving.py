"""Whether proofs run in their long form: `python3 noxfile.py -s prove-NAME` sets it."""

from __future__ import annotations

import os

LONG = os.environ.get("FLUXGATE_PROVE") == "1"
