"""`fastapi_app.py` in front of the upstream, served by uvicorn: a process of the demo's own.

Only its circuits' settings and its time-out are the demo's, the same as those of its clients.
"""

import argparse

from clients import patience, settings
from fastapi_app import create_app
from serving import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("upstream", metavar="URL")
    parser.add_argument("--pace", type=float, default=1.0, help="stretches the circuits' times")
    options = parser.parse_args()
    config = {"defaults": {**settings(options.pace), "tracker": 'TypeOf("httpx.HTTPError")'}}
    app = create_app(options.upstream, config, timeout=patience(options.pace))
    serve(app, log_level="error", access_log=False)
