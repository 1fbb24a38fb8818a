"""Which `weights_uri` may be announced: below the configured roots, or of this kind of place."""

from __future__ import annotations

from collections.abc import Sequence

from etude_proto.places import place_of

from ..errors import PayloadInvalid

_POINTER = "/weights_uri"


def check_weights_uri(uri: str, roots: Sequence[str]) -> None:
    """Refuse what no worker should be told to load.

    Args:
        uri: a path or URI.
        roots: `ETUDE_WEIGHTS_ROOTS`; none: paths and `file:` URIs.

    Raises:
        PayloadInvalid: not a place, of another scheme, or not strictly below a root.
    """
    try:
        place = place_of(uri)
    except ValueError as error:
        raise PayloadInvalid.at(_POINTER, str(error)) from error
    if not roots:
        if place.scheme != "file":
            raise PayloadInvalid.at(
                _POINTER, f"scheme {place.scheme!r} needs a root of ETUDE_WEIGHTS_ROOTS"
            )
    elif not any(place.lies_below(place_of(root)) for root in roots):
        raise PayloadInvalid.at(_POINTER, "not below a root of ETUDE_WEIGHTS_ROOTS")
