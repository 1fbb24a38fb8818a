"""Places of model weights: what is one, and what lies below what."""

from __future__ import annotations

import pytest

from etude_proto.places import place_of

NOT_A_PLACE = (
    "/weights/../etc",
    "/weights/%2e%2e/../etc",
    "file:///weights/%2e%2e/etc",
    "file:///weights/%2E%2E%2Fetc",
    "file://other.host/weights/v1",
    "file:weights/v1",
    "../v1",
    "/weights/v1\x00",
    "file:///weights/v1%00",
    "/weights\\..\\etc",
    "file:///weights%5c..%5cetc",
    "/weights/v1\n",
    "/weights/%2e%2e/etc",
    "/weights/run%31/v1",
    "/weights/v1?x=1",
    "/weights/v1#x",
    "file:///weights/%252e%252e/etc",
    "s3://bucket/v1?versionId=1",
    "s3://bucket/v1#x",
    "s3://key:secret@bucket/v1",
)
BELOW = (
    ("/weights/run/v1", "/weights"),
    ("/weights//run/./v1/", "/weights/"),
    ("file:///weights/run/v1", "/weights"),
    ("file://localhost/weights/v1", "file:///weights"),
    ("/weights/v1", "file:///weights"),
    ("s3://bucket/run/v1", "s3://bucket/run"),
    ("s3://BUCKET/v1", "s3://bucket"),
    ("/weights/v1", "/"),
)
NOT_BELOW = (
    ("/weights", "/weights"),
    ("/weightsandmore/v1", "/weights"),
    ("weights/v1", "/weights"),
    ("/other/weights/v1", "/weights"),
    ("s3://bucket/runs/v1", "s3://bucket/run"),
    ("s3://other/run/v1", "s3://bucket/run"),
    ("http://bucket/run/v1", "s3://bucket/run"),
    ("/bucket/run/v1", "s3://bucket/run"),
)


@pytest.mark.parametrize("uri", NOT_A_PLACE)
def test_it_is_no_place(uri: str) -> None:
    with pytest.raises(ValueError, match=r"place|file URI"):
        place_of(uri)


@pytest.mark.parametrize(("uri", "root"), BELOW)
def test_it_lies_below(uri: str, root: str) -> None:
    assert place_of(uri).lies_below(place_of(root))


@pytest.mark.parametrize(("uri", "root"), NOT_BELOW)
def test_it_does_not_lie_below(uri: str, root: str) -> None:
    assert not place_of(uri).lies_below(place_of(root))
