"""`python -m fluxgate`."""

import sys

from fluxgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
