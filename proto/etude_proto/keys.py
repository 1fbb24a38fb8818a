"""Bearer keys of the sampler: what one looks like, how it is made and how it is hashed.

    etk_0123456789ab_<43 characters, 256 random bits>

The part in the middle names the key (`key_0123456789ab`) and may be shown. Keys are made by whoever
asks for them (`etude keys create`), and only the digest is sent: the sampler never holds the text
of a key that nobody uses, and a stored answer has nothing to hide.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

_FORM = re.compile(r"etk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `text` is shown once and kept by its user alone."""

    id: str
    text: str = field(repr=False)
    digest: str
    """SHA-256 of the text, hexadecimal: what a `KeyCreate` holds."""


def new_key() -> NewKey:
    """A key of 256 random bits."""
    name = secrets.token_hex(6)
    text = f"etk_{name}_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    return NewKey(f"key_{name}", text, digest_of(text).hex())


def key_in(file: Path) -> str:
    """The one key that a file holds, as secrets are mounted.

    Raises:
        ValueError: it cannot be read, or does not hold one key.
    """
    try:
        lines = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if len(lines) != 1:
        raise ValueError(f"{file} holds {len(lines)} keys instead of one")
    return lines[0]


def checked(file: Path) -> Path:
    """The file itself, if it holds one key: a validator for settings.

    Raises:
        ValueError: see `key_in`.
    """
    key_in(file)
    return file


def key_given(given: object, file: Path | None) -> object:
    """The key of two settings of which at most one is given: itself, or in a file.

    Raises:
        ValueError: both are given, or the file does not hold one key.
    """
    if file is None:
        return given or None
    if given:
        raise ValueError("set this or ETUDE_API_KEY_FILE, not both")
    return key_in(file)


def digest_of(text: str) -> bytes:
    """SHA-256 of a key's text: enough for random keys, which no list of guesses holds."""
    return hashlib.sha256(text.encode()).digest()


def id_of(text: str) -> str | None:
    """The id in a key's text; None if it has another form."""
    found = _FORM.fullmatch(text)
    return None if found is None else f"key_{found[1]}"
