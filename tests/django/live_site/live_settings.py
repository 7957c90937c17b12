"""The example project on a clock that is set by hand: its circuits open at the second failure."""

import os
import sys
from time import perf_counter

from shop.settings import *  # noqa: F403 - that is what settings are made for

from fluxgate.testing import LoadedDice, ManualClock

clock = ManualClock()
if "SWITCH_INTERVAL" in os.environ:
    sys.setswitchinterval(float(os.environ["SWITCH_INTERVAL"]))
# On the real clock, and never in one state for long.
RESTLESS = {"CLOCK": perf_counter, "WINDOW": "CountWindow(10)", "RETRY": "Cooldown(0.01)"}

ROOT_URLCONF = "live_urls"
MIDDLEWARE = ["live_urls.WhoAnswered", *MIDDLEWARE]  # noqa: F405
FLUXGATE = {
    "DEFAULTS": {
        "TRIPPER": "MinRequests(2) & FailureRate(0.5)",
        "TRACKER": 'TypeOf("httpx.HTTPError")',
        "RETRY": "Cooldown(30)",
        "PERMIT": "All()",
        "MAX_HALF_OPEN_CALLS": 1,
        "CLOCK": clock,
        "DICE": LoadedDice(0.0),
    },
    "BREAKERS": {"called": RESTLESS, "decorated": RESTLESS},
    "RESPONSE": {"TEMPLATE": "503.html"},
}
