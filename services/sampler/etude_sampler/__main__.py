"""`python -m etude_sampler`: the same as `etude`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
