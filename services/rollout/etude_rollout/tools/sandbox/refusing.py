"""The one exception that leaves an environment inside the sandbox. Used by all of them."""

from __future__ import annotations


class Refused(Exception):
    """The tool cannot do what was asked; the text is what the policy reads."""
