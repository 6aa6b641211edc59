"""What applications ask: statements of entities, statements of rows, and code that goes from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Integer,
    String,
    and_,
    case,
    column,
    distinct,
    except_,
    exists,
    func,
    inspect,
    intersect,
    lateral,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union,
    union_all,
    values,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    defer,
    joinedload,
    lazyload,
    load_only,
    noload,
    raiseload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
    with_parent,
    with_polymorphic,
)

from tests.real.applications.models import Models

KINDS = ("a", "b")
Term = tuple[str, str, int]


@dataclass(frozen=True)
class Asked:
    """One query: its name, numbers that it may use, conditions, and in which form it is asked."""

    name: str
    number: int
    where: tuple[Term, ...]
    form: str


class Question:
    """A query about to be asked, with an argument."""

    def __init__(self, models: Models, dialect: str, asked: Asked, argument: int) -> None:
        self.m, self.dialect = models, dialect
        self.number, self._where = asked.number, asked.where
        self.argument = argument
        self.key = 1 + (asked.number + argument) % 4
        self.kind = KINDS[(asked.number + argument) % 2]

    def pick(self, *choices: Any) -> Any:
        return choices[self.number % len(choices)]

    def where(self, entity: Any) -> Any:
        return and_(true(), *(condition(entity, term, self.argument) for term in self._where))


def value_of(column: Any, number: int) -> Any:
    """What a column gets: a value that rows have, or NULL."""
    if number % 6 == 5:
        return None
    if not isinstance(column.type, String):
        return 1 + number % 3
    return str(1 + number % 3) if "code" in column.key else KINDS[number % 2]


def columns_of(entity: Any) -> list[Any]:
    """The columns of a class, an alias or a table of which values can be compared."""
    if hasattr(entity, "c"):
        return list(entity.c)
    found = [each for each in inspect(entity).mapper.column_attrs if isinstance(each.columns[0], Column)]
    return [getattr(entity, each.key) for each in found if isinstance(each.columns[0].type, Integer | String)]


def condition(entity: Any, term: Term, argument: int) -> Any:
    name, how, given = term
    columns = columns_of(entity)
    own = next((each for each in columns if each.key == name), columns[given % len(columns)])
    value, other = value_of(own, given + argument), value_of(own, given + argument + 1)
    if value is None:
        return own.is_(None)
    match how:
        case "=":
            return own == value
        case "in":
            return own.in_([each for each in (value, other) if each is not None])
        case ">":
            return own >= value
        case "or":
            return or_(own == value, own == other)
        case "not":
            return own != value
        case _:
            return func.coalesce(own, value) == value


# ---- statements of entities


def orgs(q: Question) -> Any:
    return select(q.m.Org).where(q.where(q.m.Org))


def items(q: Question) -> Any:
    return select(q.m.Item).where(q.where(q.m.Item))


def memberships(q: Question) -> Any:
    return select(q.m.Membership).where(q.where(q.m.Membership))


def grants(q: Question) -> Any:
    return select(q.m.Grant).options(joinedload(q.m.Grant.member)).where(q.where(q.m.Grant))


def parties(q: Question) -> Any:
    return select(q.m.Party).where(q.where(q.m.Party))


def a_subclass(q: Question) -> Any:
    cls = q.pick(q.m.Person, q.m.Firm)
    return select(cls).where(q.where(cls))


def parties_with_all(q: Question) -> Any:
    if q.m.plan.inheritance == "concrete":
        return parties(q)
    every = with_polymorphic(q.m.Party, "*", aliased=q.pick(True, False))
    return select(every).where(or_(every.Person.nick == q.kind, every.Firm.size == q.key))


def parties_loaded_by_class(q: Question) -> Any:
    if q.m.plan.inheritance == "concrete":
        return parties(q)
    return select(q.m.Party).where(q.where(q.m.Party)).options(selectin_polymorphic(q.m.Party, [q.m.Person, q.m.Firm]))


def orgs_with_items(q: Question) -> Any:
    load = q.pick(selectinload, joinedload, subqueryload)(q.m.Org.items)
    return select(q.m.Org).where(q.where(q.m.Org)).options(load)


def orgs_with_some_items(q: Question) -> Any:
    load = selectinload(q.m.Org.items.and_(q.m.Item.kind == q.kind))
    return select(q.m.Org).where(q.where(q.m.Org)).options(load)


def orgs_with_labels(q: Question) -> Any:
    member = q.m.Membership
    load = q.pick(selectinload, joinedload)(q.m.Org.members).joinedload(member.label)
    return select(q.m.Org).where(q.where(q.m.Org)).options(load)


def items_with_labels(q: Question) -> Any:
    load = q.pick(selectinload, joinedload, subqueryload)(q.m.Item.labels)
    return select(q.m.Item).where(q.where(q.m.Item)).options(load)


def items_with_their_tree(q: Question) -> Any:
    item = q.m.Item
    load = q.pick(selectinload(item.children, recursion_depth=2), joinedload(item.parent).joinedload(item.org))
    return select(item).where(q.where(item)).options(load)


def items_joined_to_their_org(q: Question) -> Any:
    item = q.m.Item
    return select(item).join(item.org).where(q.where(q.m.Org)).options(contains_eager(item.org))


def items_of_a_label(q: Question) -> Any:
    item = q.m.Item
    return select(item).where(q.pick(item.labels.any(id=q.key), item.labels.any(q.m.Label.code == str(q.key))))


def items_of_a_parent(q: Question) -> Any:
    return select(q.m.Item).where(with_parent(q.m.Org(id=q.key), q.m.Org.items))


def partly_loaded_orgs(q: Question) -> Any:
    org = q.m.Org
    options = q.pick(
        (load_only(org.number),), (defer(org.items_there), lazyload("*")), (undefer("*"), noload(org.members))
    )
    return select(org).where(q.where(org)).options(*options)


def items_that_are_there(q: Question) -> Any:
    """Soft delete, as a criterion of the statement."""
    criteria = with_loader_criteria(q.m.Item, q.m.Item.gone == 0, propagate_to_loaders=False)
    return select(q.m.Org).options(selectinload(q.m.Org.items), criteria)


def entities_of_an_alias(q: Question) -> Any:
    other = aliased(q.m.Item, select(q.m.Item).where(q.where(q.m.Item)).subquery())
    return select(other)


def entities_of_a_union(q: Question) -> Any:
    item = q.m.Item
    both = union(select(item).where(q.where(item)), select(item).where(item.id == q.key)).subquery()
    return select(aliased(item, both))


def entities_from_text(q: Question) -> Any:
    words = text("SELECT * FROM items WHERE kind = :kind").bindparams(kind=q.kind)
    return select(q.m.Item).from_statement(words)


def without_what_raises(q: Question) -> Any:
    return select(q.m.Item).where(q.where(q.m.Item)).options(raiseload(q.m.Item.parent))


# ---- statements of rows


def whole_rows(q: Question) -> Any:
    cls = q.m.roots[q.number % len(q.m.roots)]
    return select(*columns_of(cls)).where(q.where(cls))


def secondary_rows(q: Question) -> Any:
    return select(q.m.item_labels).where(q.where(q.m.item_labels))


def pairs_in(q: Question) -> Any:
    member = q.m.Membership
    both = tuple_(member.org_id, member.label_code)
    return select(member.role).where(both.in_([(q.key, str(q.key)), (1, "2")]))


def a_composite_key(q: Question) -> Any:
    grant, member = q.m.Grant, q.m.Membership
    found = select(member.role, grant.number).join(grant.member)
    return found.where(member.org_id == q.key, member.label_code == str(q.key))


def column_properties(q: Question) -> Any:
    return select(q.m.Org.id, q.m.Org.items_there).where(q.where(q.m.Org)).order_by(q.m.Org.items_there)


def hybrids(q: Question) -> Any:
    return select(q.m.Org.id, q.m.Org.rank).where(q.m.Org.rank > q.key * 10, q.where(q.m.Org))


def siblings(q: Question) -> Any:
    one, other = q.m.Item, aliased(q.m.Item)
    return select(one.id, other.id).join(other, other.parent_id == one.parent_id).where(q.where(one), q.where(other))


def descendants(q: Question) -> Any:
    item = q.m.Item
    tree = select(item.id, item.parent_id).where(item.id == q.key).cte("tree", recursive=True)
    other = aliased(item)
    tree = tree.union(select(other.id, other.parent_id).join(tree, other.parent_id == tree.c.id))
    return select(tree.c.id, item.kind).join_from(tree, item, item.id == tree.c.id)


def ancestors(q: Question) -> Any:
    item, other = q.m.Item, aliased(q.m.Item)
    tree = select(item.id, item.parent_id, item.number).where(item.id == q.key).cte("up", recursive=True)
    tree = tree.union(select(other.id, other.parent_id, other.number).where(other.id == tree.c.parent_id))
    return select(tree)


def laterals(q: Question) -> Any:
    org, item = q.m.Org, q.m.Item
    if q.dialect != "postgresql":
        return siblings(q)
    inner = select(item.id, item.number).where(item.org_id == org.id, q.where(item)).order_by(item.id)
    newest = lateral(inner.limit(2))
    return select(org.id, newest.c.id, newest.c.number).join(newest, true(), isouter=q.pick(True, False))


def windows(q: Question) -> Any:
    item = q.m.Item
    rank = func.rank().over(partition_by=item.org_id, order_by=(item.number, item.id)).label("rank")
    before = func.lag(item.number).over(order_by=item.id)
    inner = select(item.id, rank, before.label("before")).where(q.where(item)).subquery()
    return select(inner).where(inner.c.rank <= 2)


def of_json(q: Question) -> Any:
    org = q.m.Org
    kind = org.data["kind"].as_string()
    return select(org.id, kind, org.data["n"][0].as_integer()).where(or_(kind == q.kind, q.where(org)))


def rows_of_json(q: Question) -> Any:
    org = q.m.Org
    if q.dialect == "postgresql":
        each = func.json_array_elements_text(org.data["n"]).table_valued("value")
        return select(org.id, each.c.value).where(q.where(org))
    if q.dialect == "sqlite":
        each = func.json_each(org.data, "$.n").table_valued("value")
        return select(org.id, each.c.value).where(q.where(org))
    return of_json(q)


def of_arrays(q: Question) -> Any:
    org = q.m.Org
    if q.dialect != "postgresql":
        return of_json(q)
    each = func.unnest(org.numbers).column_valued("each")
    return q.pick(
        select(org.id).where(literal(q.key) == org.numbers.any_()),
        select(org.id, org.numbers[1]).where(org.numbers[2] == 2, q.where(org)),
        select(org.id, each).where(q.where(org)),
        select(func.array_agg(aggregate_order_by(org.number, org.id))).where(q.where(org)),
    )


def labelled(q: Question) -> Any:
    item, label = q.m.Item, q.m.Label
    return select(item.id, label.code).join(item.labels, isouter=q.pick(True, False)).where(q.where(item))


def labelled_by_table(q: Question) -> Any:
    item, between = q.m.Item, q.m.item_labels
    found = select(item.kind, func.count()).join(between, between.c.item_id == item.id)
    return found.where(between.c.label_id == q.key).group_by(item.kind)


def unlabelled(q: Question) -> Any:
    return select(q.m.Item.id).where(~q.m.Item.labels.any(), q.where(q.m.Item))


def organizations_of_labels(q: Question) -> Any:
    org = q.m.Org
    return select(org.id).where(org.members.any(q.m.Membership.label.has(code=str(q.key))))


def by_proxy(q: Question) -> Any:
    return select(q.m.Org.id).where(q.m.Org.labels.any(code=str(q.key)))


def columns_that_the_database_gives(q: Question) -> Any:
    org = q.m.Org
    return select(org.id, org.level, org.twice).where(q.pick(org.level == 2, org.twice == 2 * q.key, q.where(org)))


def behind_a_view(q: Question) -> Any:
    return select(q.m.busy.c.org_id, q.m.busy.c["items"]).where(q.m.busy.c.org_id == q.key)


def logged(q: Question) -> Any:
    log = q.m.Log
    return select(func.count(), func.max(log.number)).where(log.item_id == q.key) if q.number % 2 else select(log.id)


def cases(q: Question) -> Any:
    item = q.m.Item
    kind = case((item.gone == 1, "gone"), (item.number > 1, item.kind), else_="few")
    return select(kind, func.count(distinct(item.org_id))).group_by(kind)


def set_operations(q: Question) -> Any:
    both = q.pick(except_, intersect, union_all)
    return both(select(q.m.Item.org_id).where(q.where(q.m.Item)), select(q.m.Org.id).where(q.where(q.m.Org)))


def with_values(q: Question) -> Any:
    some = values(column("n", Integer), name="some").data([(1,), (q.key,)])
    if q.dialect != "postgresql":
        return siblings(q)
    return select(some.c.n, q.m.Item.id).join(q.m.Item, q.m.Item.org_id == some.c.n, isouter=True)


def filtered(q: Question) -> Any:
    item = q.m.Item
    if q.dialect == "mariadb":
        return cases(q)
    return select(item.org_id, func.count().filter(item.gone == 1), func.sum(item.number)).group_by(item.org_id)


def scalars_of_others(q: Question) -> Any:
    org, item = q.m.Org, q.m.Item
    inner = select(func.sum(item.number)).where(item.org_id == org.id, q.where(item)).scalar_subquery()
    return select(org.id, inner, exists().where(item.org_id == org.id, item.gone == 1).select().scalar_subquery())


def of_two_classes(q: Question) -> Any:
    org, firm = q.m.Org, q.m.Firm
    return select(org.kind, firm.size, firm.kind).join(firm, firm.org_id == org.id).where(q.where(firm))


def bundles(q: Question) -> Any:
    item = q.m.Item
    return select(Bundle("both", item.id, item.kind), item.org_id).where(q.where(item))


def chains(q: Question) -> Any:
    """A CTE of a CTE, used twice."""
    item = q.m.Item
    first = select(item.org_id, func.count().label("n")).where(q.where(item)).group_by(item.org_id).cte("first")
    most = select(func.max(first.c.n).label("n")).cte("most")
    found = select(first.c.org_id, q.m.Org.kind).join(most, most.c.n == first.c.n)
    return found.join(q.m.Org, q.m.Org.id == first.c.org_id, isouter=q.pick(True, False))


def written_by_hand(q: Question) -> Any:
    return q.pick(
        text("SELECT i.id, o.kind FROM items AS i JOIN orgs AS o ON o.id = i.org_id WHERE i.number = :n"),
        text("SELECT org_id, role FROM memberships WHERE org_id = :n"),
        text("SELECT count(*) FROM item_labels WHERE label_id = :n"),
        text("WITH few AS (SELECT id FROM labels WHERE id > :n) SELECT * FROM few, grants"),
    ).bindparams(n=q.key)


def partly_by_hand(q: Question) -> Any:
    item = q.m.Item
    return select(item.id, literal_column("items.number + 1")).where(text("items.gone = :gone").bindparams(gone=0))


def distinct_on(q: Question) -> Any:
    item = q.m.Item
    if q.dialect != "postgresql":
        return select(item.org_id).distinct().where(q.where(item))
    return select(item.org_id, item.id).distinct(item.org_id).order_by(item.org_id, item.id).where(q.where(item))


def pinned_twice(q: Question) -> Any:
    """One row, and beside it others of the same table."""
    one, other = q.m.Item, aliased(q.m.Item)
    inner = select(func.count(other.id)).where(other.kind == one.kind).scalar_subquery()
    return select(one.id, one.number, inner).where(one.id == q.key)


def pinned_by_a_join(q: Question) -> Any:
    org, item = q.m.Org, q.m.Item
    joined = select(org.kind, item.id, item.number).join(item, item.org_id == org.id, isouter=q.pick(True, False))
    return joined.where(org.id == q.key)


# ---- code that goes on from what it finds


def tree_of(session: Session, q: Question) -> Any:
    def down(item: Any, depth: int) -> Any:
        return [_plain(item), *([down(each, depth - 1) for each in _sorted(item.children)] if depth else [])]

    found = session.get(q.m.Item, q.key)
    return found and down(found, 2)


def labels_of(session: Session, q: Question) -> Any:
    found = session.get(q.m.Item, q.key)
    return found and [_plain(each) for each in _sorted(found.labels)]


def proxied(session: Session, q: Question) -> Any:
    found = session.get(q.m.Org, q.key)
    return found and [(_plain(each), [_plain(g) for g in _sorted(each.grants)]) for each in _sorted(found.members)]


def by_composite_key(session: Session, q: Question) -> Any:
    found = session.get(q.m.Membership, {"org_id": q.key, "label_code": str(q.key)})
    return found and [_plain(found), _plain(found.label), [_plain(each) for each in _sorted(found.grants)]]


def a_party(session: Session, q: Question) -> Any:
    cls = q.pick(q.m.Party, q.m.Person, q.m.Firm)
    found = session.get(cls, q.key)
    return found and [type(found).__name__, _plain(found)]


def every_party(session: Session, q: Question) -> Any:
    return [(type(each).__name__, _plain(each)) for each in _sorted(session.scalars(select(q.m.Party)).unique())]


def collected_later(session: Session, q: Question) -> Any:
    found = session.get(q.m.Label, q.key)
    if found is None or not q.m.plan.is_written_later:
        return None
    return [_plain(each) for each in _sorted(session.scalars(found.later.select().where(q.where(q.m.Membership))))]


def by_a_query(session: Session, q: Question) -> Any:
    found = session.query(q.m.Item.id, q.m.Item.kind).filter(q.where(q.m.Item)).filter_by(gone=0)
    return sorted((tuple(row) for row in found), key=repr)


def as_the_data_says(session: Session, q: Question) -> Any:
    """Which statement comes next depends on what the one before it found."""
    kind = session.scalar(select(q.m.Org.kind).where(q.m.Org.id == q.key))
    cls = {"a": q.m.Item, "b": q.m.Grant}.get(kind, q.m.Label)
    return [kind, sorted(session.scalars(select(cls.id)).all())]


def raw_sql(session: Session, q: Question) -> Any:
    style = session.get_bind().dialect.paramstyle
    mark = {"qmark": "?", "numeric_dollar": "$1"}.get(style, "%s")
    sql = f"SELECT id, kind FROM items WHERE org_id = {mark}"
    found = session.connection().exec_driver_sql(sql, (q.key,))
    return sorted((tuple(row) for row in found), key=repr)


def in_parts(session: Session, q: Question) -> Any:
    statement = select(q.m.Item.id, q.m.Item.number).where(q.where(q.m.Item)).order_by(q.m.Item.id)
    result = session.execute(statement, execution_options={"yield_per": 2})
    return [tuple(row) for part in result.partitions() for row in part]


def mapped(session: Session, q: Question) -> Any:
    rows = session.execute(select(q.m.Item.id, q.m.Item.gone).where(q.where(q.m.Item))).mappings()
    return sorted((dict(row) for row in rows), key=repr)


def refreshed(session: Session, q: Question) -> Any:
    found = session.get(q.m.Org, q.key)
    if found is None:
        return None
    session.refresh(found, ["items", "number"])
    return [_plain(found), [_plain(each) for each in _sorted(found.items)]]


def _sorted(entities: Any) -> list[Any]:
    return sorted(entities, key=lambda each: repr(inspect(each).identity))


def _plain(entity: Any) -> Any:
    """Its columns; a concrete class has no column that tells it apart."""
    return [repr(getattr(entity, each.key)) for each in inspect(entity).mapper.column_attrs if each.key != "type"]


Statement = Callable[[Question], Any]
ENTITIES: tuple[Statement, ...] = (
    *(orgs, items, memberships, grants, parties, a_subclass, parties_with_all, parties_loaded_by_class),
    *(orgs_with_items, orgs_with_some_items, orgs_with_labels, items_with_labels, items_with_their_tree),
    *(items_joined_to_their_org, items_of_a_label, items_of_a_parent, partly_loaded_orgs, items_that_are_there),
    *(entities_of_an_alias, entities_of_a_union, entities_from_text, without_what_raises),
)
ROWS: tuple[Statement, ...] = (
    *(whole_rows, secondary_rows, pairs_in, a_composite_key, column_properties, hybrids, siblings, descendants),
    *(ancestors, laterals, windows, of_json, rows_of_json, of_arrays, labelled, labelled_by_table, unlabelled),
    *(organizations_of_labels, by_proxy, columns_that_the_database_gives, behind_a_view, logged, cases),
    *(set_operations, with_values, filtered, scalars_of_others, of_two_classes, bundles, chains, written_by_hand),
    *(partly_by_hand, distinct_on, pinned_twice, pinned_by_a_join),
)
CODE: tuple[Callable[[Session, Question], Any], ...] = (
    *(tree_of, labels_of, proxied, by_composite_key, a_party, every_party, collected_later, by_a_query),
    *(as_the_data_says, raw_sql, in_parts, mapped, refreshed),
)
NEVER_KEPT_AS_ENTITIES = {orgs_with_some_items}  # SQLAlchemy makes a loader criterion of `and_`
BY_NAME: dict[str, Any] = {each.__name__: each for each in (*ENTITIES, *ROWS, *CODE)}
LOOKED_UP = ("get", "get", "get_many")

terms = st.tuples(
    st.sampled_from(("id", "org_id", "parent_id", "kind", "number", "gone", "level", "twice", "label_code", "role")),
    st.sampled_from(("=", "=", "=", "in", ">", "or", "not", "call")),
    st.integers(0, 5),
)


def _asked(names: tuple[str, ...], forms: tuple[str, ...]) -> st.SearchStrategy[Asked]:
    return st.builds(
        Asked,
        name=st.sampled_from(names),
        number=st.integers(0, 7),
        where=st.lists(terms, max_size=2).map(tuple),
        form=st.sampled_from(forms),
    )


queries = st.one_of(
    _asked(tuple(each.__name__ for each in ENTITIES), ("plain", "entities", "entities", "statement", "nested")),
    _asked(tuple(each.__name__ for each in ROWS), ("plain", "plain", "statement", "nested")),
    _asked(tuple(each.__name__ for each in CODE), ("plain", "nested")),
    _asked(LOOKED_UP, ("lookup",)),
)
