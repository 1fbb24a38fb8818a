"""Rows of another shape than the first row's are refused by themselves."""

from __future__ import annotations

import pytest

from etude_client.sources.reading import How, Reading
from etude_proto.rows.shapes import Shape
from etude_proto.rows.stream import JsonObject, Row, RowFault
from support.shaped_rows import ROWS

USER: JsonObject = {"role": "user", "content": "1?"}
SAID: JsonObject = {"role": "assistant", "content": "1."}


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (Shape.TRL, Shape.VERL),
        (Shape.VERL, Shape.RLLA),
        (Shape.TASK, Shape.CHAT),
        (Shape.OPENAI, Shape.CHAT),
        (Shape.CHAT, Shape.TASK),
    ],
)
def test_a_row_of_another_shape_is_refused(first: Shape, other: Shape) -> None:
    made = list(Reading([ROWS[first], ROWS[other], ROWS[first]], How(as_given=False)))
    assert [type(one) for one in made] == [Row, RowFault, Row]
    assert isinstance(made[1], RowFault)
    assert f"`{other}`" in made[1].detail


def test_a_line_may_be_of_either_form() -> None:
    made = list(Reading([ROWS[Shape.TASK], ROWS[Shape.OPENAI]], How(as_given=False)))
    assert [type(one) for one in made] == [Row, Row]


def test_a_dialogue_that_the_user_ends_is_refused() -> None:
    rows: list[JsonObject] = [{"messages": [USER, SAID, USER]}]
    (fault,) = Reading(rows, How(shape=Shape.CHAT))
    assert isinstance(fault, RowFault)
    assert "ends with the user" in fault.detail
