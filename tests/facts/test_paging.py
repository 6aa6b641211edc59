"""What paging relies on in SQLAlchemy, named by the fact."""

from __future__ import annotations

from sqlalchemy import column, desc, func, select, table, union_all
from sqlalchemy.dialects.postgresql import distinct_on

from perfkit.sqla.private import parts_of, reference_in

bins = table("bins", column("id"), column("name"))


def test_the_clauses_of_a_select_can_be_read():
    """ORDER BY, GROUP BY, DISTINCT and LIMIT; SQLAlchemy has no public name for them."""
    plain = parts_of(select(bins).order_by(bins.c.name))
    assert plain.order_by == (bins.c.name,)
    assert (plain.group_by, plain.is_distinct, plain.is_limited, plain.compound) == ((), False, False, "")
    assert parts_of(select(bins.c.name, func.count()).group_by(bins.c.name)).group_by == (bins.c.name,)
    assert parts_of(select(bins).distinct()).is_distinct
    for limited in (select(bins).limit(1), select(bins).offset(1), select(bins).fetch(1)):
        assert parts_of(limited).is_limited


def test_distinct_on_stands_before_the_columns():
    """As the extension of PostgreSQL's dialect puts it there."""
    assert parts_of(select(bins).ext(distinct_on(bins.c.name))).distinct_on
    assert not parts_of(select(bins).distinct()).distinct_on


def test_a_compound_knows_its_parts():
    both = union_all(select(bins), select(bins)).order_by("name")
    assert (parts_of(both).compound, len(parts_of(both).selects), parts_of(both).is_limited) == ("UNION ALL", 2, False)


def test_labels_in_order_by_are_references():
    """To a name, or to the label itself."""
    label = bins.c.name.label("n")
    name, itself = parts_of(select(label).order_by("n", label)).order_by
    assert reference_in(name) == "n"
    assert reference_in(itself) is label
    assert reference_in(parts_of(select(label).order_by(desc("n"))).order_by[0].element) == "n"
