"""`etude doctor`: asks everything that Etude stands on, names what is wrong and how to mend it.

Each module looks at one thing and returns findings; `command.py` shows them. Nothing is changed.
"""

from .finding import Finding, Level

__all__ = ["Finding", "Level"]
