"""`make demo`: the whole loop on this machine. The program is the package beside this file."""

from __future__ import annotations

import sys

from etude_demo.app import main

if __name__ == "__main__":
    sys.exit(main())
