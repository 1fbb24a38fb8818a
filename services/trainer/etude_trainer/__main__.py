"""`python -m etude_trainer`: the command of `cli.py`."""

from .cli import main

if __name__ == "__main__":
    main()
