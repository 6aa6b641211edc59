"""Which values have a name: those that the database stores and compares as they are."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, String, Text, func

from perfkit.sqla.rows import value_name


class Lower(String):
    """Somebody's own type: what is stored is not what was given."""

    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return func.lower(bindvalue)


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        (String(), "a b", "a%20b"),
        (Text(), "a", "a"),
        (String(2), "ab", "ab"),
        (String(2), "ab ", None),
        (String(collation="NOCASE"), "a", None),
        (Lower(), "a", None),
        (String().with_variant(Text(), "postgresql"), "a", "a"),
    ],
)
def test_a_value_that_may_be_stored_as_another_has_no_name(kind, value, name):
    """So that a reader depends on the table, and a writer marks it."""
    assert value_name(Column("a", kind), value, "postgresql") == name
