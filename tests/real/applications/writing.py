"""What applications write, and how: each way is one function of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import TextClause, bindparam, delete, func, insert, literal, select, text, tuple_, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from tests.real.applications.asking import KINDS, Term, columns_of, condition, terms, value_of
from tests.real.applications.models import Models


@dataclass(frozen=True)
class Written:
    """One write: how, and numbers and a condition that it may use."""

    name: str
    row: int
    value: int
    term: Term


class Step:
    """A write about to be done."""

    def __init__(self, models: Models, written: Written) -> None:
        self.m, self.row, self.value, self._term = models, written.row, written.value, written.term
        self.kind = KINDS[written.value % 2]
        self.cls = models.roots[written.row % len(models.roots)]
        self.in_bulk = models.in_bulk(self.cls)

    def where(self, entity: Any) -> Any:
        return condition(entity, self._term, 0)

    def pick(self, *choices: Any) -> Any:
        return choices[self.value % len(choices)]


def _column(step: Step, cls: Any) -> Any:
    """One of the columns that can be set."""
    keys = {column.key for column in cls.__mapper__.primary_key}
    found = [
        each
        for each in columns_of(cls)
        if each.key not in keys
        and each.key not in ("twice", "what", "version_id")
        and each.property.columns[0].table is cls.__table__
    ]
    return found[step.row % len(found)] if found else None


# ---- entities


def add_an_org(session: Session, s: Step) -> None:
    given = {} if s.value % 2 else {"level": s.value}
    data = {"kind": s.kind, "n": [s.value, s.row]}
    session.add(s.m.Org(id=3 + s.row, kind=s.kind, number=s.value, data=data, numbers=[s.value], **given))


def add_an_item(session: Session, s: Step) -> None:
    session.add(s.m.Item(id=4 + s.row, org_id=s.value or None, parent_id=s.row, kind=s.kind, number=s.value))


def add_by_relations(session: Session, s: Step) -> None:
    if org := session.get(s.m.Org, s.row):
        label = session.get(s.m.Label, 1 + s.value % 3)
        org.items.append(s.m.Item(id=20 + s.row, kind=s.kind, number=s.value, labels=[label] if label else []))


def add_a_party(session: Session, s: Step) -> None:
    given = {"id": 10 + s.row, "kind": s.kind, "number": s.value}
    session.add(
        s.pick(
            lambda: s.m.Party(**given),
            lambda: s.m.Person(nick=s.kind, **given),
            lambda: s.m.Firm(size=s.value, org_id=s.row, **given),
        )()
    )


def change(session: Session, s: Step) -> None:
    """Any column of any row."""
    found = list(session.scalars(select(s.cls).where(s.where(s.cls))).unique())
    names = [each for each in columns_of(s.cls) if each.key not in ("id", "what", "twice", "org_id", "label_code")]
    for each in found[:2]:
        if names:
            column = names[s.value % len(names)]
            setattr(each, column.key, value_of(column, s.value))


def change_a_key(session: Session, s: Step) -> None:
    """What refers to it follows, or does not let it."""
    match s.value % 3:
        case 0:
            if found := session.get(s.m.Label, s.row):
                found.code = str(s.value + 5)
        case 1:
            for each in session.scalars(select(s.m.Membership).where(s.where(s.m.Membership))).unique().all()[:1]:
                each.label_code = str(1 + s.row % 3)
        case _:
            if found := session.get(s.m.Org, s.row):
                found.id = s.row + 30


def remove(session: Session, s: Step) -> None:
    for each in session.scalars(select(s.cls).where(s.where(s.cls))).unique().all()[:2]:
        session.delete(each)


def remove_by_key(session: Session, s: Step) -> None:
    cls = s.pick(s.m.Org, s.m.Item, s.m.Label, s.m.Party)
    if found := session.get(cls, s.row):
        session.delete(found)


def merge(session: Session, s: Step) -> None:
    session.merge(
        s.pick(
            s.m.Item(id=s.row, kind=s.kind, number=s.value, org_id=1),
            s.m.Label(id=s.row, code=str(s.value)),
            s.m.Membership(org_id=s.row, label_code=str(s.row), role=s.kind),
        )
    )


def relate(session: Session, s: Step) -> None:
    item, other = session.get(s.m.Item, s.row), session.get(s.m.Item, 1 + s.value % 4)
    if item is None:
        return
    match s.value % 4:
        case 0:
            item.parent = other
        case 1:
            item.org = session.get(s.m.Org, s.row)
        case 2 if other is not None:
            item.children.append(other)
        case _:
            item.children = []


def label(session: Session, s: Step) -> None:
    """Many to many: append, remove, replace, clear, from either side."""
    item, tag = session.get(s.m.Item, s.row), session.get(s.m.Label, 1 + s.value % 3)
    if item is None or tag is None:
        return
    match s.value % 5:
        case 0:
            item.labels.append(tag)
        case 1 if tag in item.labels:
            item.labels.remove(tag)
        case 2:
            item.labels = [tag]
        case 3:
            item.labels.clear()
        case _:
            tag.items = [item]


def associate(session: Session, s: Step) -> None:
    """Association objects: appended, changed, orphaned, by proxy."""
    org, tag = session.get(s.m.Org, s.row), session.get(s.m.Label, 1 + s.value % 3)
    if org is None or tag is None:
        return
    match s.value % 4:
        case 0:
            org.members.append(s.m.Membership(label_code=tag.code, role=s.kind))
        case 1:
            org.labels.append(tag)
        case 2:
            org.members.clear()
        case _:
            for each in org.members:
                each.role = s.kind


def grant(session: Session, s: Step) -> None:
    member = session.scalars(select(s.m.Membership).where(s.where(s.m.Membership))).unique().first()
    if member is not None:
        member.grants.append(s.m.Grant(number=s.value))


def write_later(session: Session, s: Step) -> None:
    tag = session.get(s.m.Label, s.row)
    if tag is None or not s.m.plan.is_written_later:
        return
    match s.value % 3:
        case 0:
            tag.later.add(s.m.Membership(org_id=1 + s.value, role=s.kind))
        case 1:
            session.execute(tag.later.update().values(role=s.kind))
        case _:
            session.execute(tag.later.delete())


def hide(session: Session, s: Step) -> None:
    """Soft delete."""
    if found := session.get(s.m.Item, s.row):
        found.gone = 1 - (found.gone or 0)


def put_into_json(session: Session, s: Step) -> None:
    if found := session.get(s.m.Org, s.row):
        found.data = dict(found.data or {})
        found.data["kind"] = s.kind
        flag_modified(found, "data")
        found.numbers = [*(found.numbers or []), s.value]


# ---- in bulk, by the ORM


def bulk_update(session: Session, s: Step) -> None:
    cls = s.in_bulk
    column = _column(s, cls)
    if column is not None:
        how = s.pick("fetch", "evaluate", False, "auto")
        statement = update(cls).where(s.where(cls)).values({column: value_of(column, s.value)})
        session.execute(statement, execution_options={"synchronize_session": how})


def bulk_update_by_key(session: Session, s: Step) -> None:
    cls = s.m.in_bulk(s.pick(s.m.Item, s.m.Org, s.m.Party))
    if not (cls is s.m.Org and s.m.plan.has_versions):
        session.execute(update(cls), [{"id": s.row, "kind": s.kind}, {"id": s.row + 1, "kind": None}])


def bulk_insert(session: Session, s: Step) -> None:
    cls = s.m.in_bulk(s.pick(s.m.Item, s.m.Person, s.m.Party, s.m.Firm))
    statement = insert(cls) if s.row % 2 else insert(cls).returning(cls.id)
    session.execute(statement, [{"id": 40 + s.row, "kind": s.kind}, {"id": 50 + s.row, "kind": "a", "number": 1}])


def bulk_mappings(session: Session, s: Step) -> None:
    if s.value % 2:
        session.bulk_insert_mappings(s.m.Person, [{"id": 60 + s.row, "kind": s.kind, "nick": s.kind}])
    else:
        session.bulk_update_mappings(s.m.Item, [{"id": s.row, "org_id": s.value or None, "kind": s.kind}])
    session.bulk_save_objects([s.m.Label(id=10 + s.row, code=str(10 + s.row))])


def bulk_delete(session: Session, s: Step) -> None:
    session.execute(delete(s.in_bulk).where(s.where(s.in_bulk)))


def by_a_query(session: Session, s: Step) -> None:
    query = session.query(s.m.Item).filter(s.where(s.m.Item))
    if s.value % 2:
        query.update({"number": s.m.Item.number + 1}, synchronize_session=False)
    else:
        query.delete(synchronize_session=False)


def by_a_class_of_several_tables(session: Session, s: Step) -> None:
    cls, new = s.pick((s.m.Person, {"nick": s.kind}), (s.m.Firm, {"size": s.value}))
    if s.m.plan.inheritance != "concrete":
        session.execute(update(cls).where(cls.id == s.row).values(**new))
    else:
        session.execute(update(cls.__table__).where(cls.__table__.c.id == s.row).values(**new))


# ---- by Core


def _upsert(session: Session, into: Any, rows: list[dict[str, Any]], by: list[str], set_: dict[str, Any]) -> Any:
    """`set_` empty: DO NOTHING."""
    dialect = session.get_bind().dialect.name
    given: Any = rows if len(rows) > 1 else rows[0]
    if dialect in ("mysql", "mariadb"):
        statement: Any = mysql.insert(into).values(given)
        return statement.on_duplicate_key_update(**set_) if set_ else statement.prefix_with("IGNORE")
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(into).values(given)
    if not set_:
        return statement.on_conflict_do_nothing(index_elements=by)
    return statement.on_conflict_do_update(index_elements=by, set_=set_)


def upsert(session: Session, s: Step) -> None:
    rows = [{"id": s.row, "kind": s.kind, "org_id": 1}, {"id": s.row + 4, "kind": "b", "org_id": 2}]
    set_ = s.pick({}, {"kind": s.kind}, {"org_id": s.value or None}, {"number": 3, "gone": 1})
    statement = _upsert(session, s.m.Item, rows, ["id"], set_)
    if s.row % 2 and session.get_bind().dialect.name != "mariadb":
        session.scalars(statement.returning(s.m.Item), execution_options={"populate_existing": True}).all()
    else:
        session.execute(statement)


def upsert_by_another_key(session: Session, s: Step) -> None:
    """The row that is in conflict gets another key, or loses its code."""
    rows = [{"id": 20 + s.row, "code": str(s.value)}]
    session.execute(_upsert(session, s.m.Label, rows, ["code"], s.pick({"id": 30 + s.row}, {"code": str(7 + s.row)})))


def upsert_a_pair(session: Session, s: Step) -> None:
    rows = [{"org_id": s.row, "label_code": str(1 + s.value % 3), "role": s.kind}]
    session.execute(_upsert(session, s.m.Membership, rows, ["org_id", "label_code"], {"role": s.kind}))


def upsert_many(session: Session, s: Step) -> None:
    if session.get_bind().dialect.name == "mariadb":
        return
    kind: Any = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    statement = kind.insert(s.m.Item)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_={"kind": statement.excluded.kind})
    session.execute(statement, [{"id": s.row, "kind": s.kind}, {"id": s.row + 4, "kind": "a"}])


def update_from(session: Session, s: Step) -> None:
    item, org = s.m.Item, s.m.Org
    values = s.pick({"kind": org.kind}, {"number": org.number}, {"org_id": None})
    statement = update(item).where(item.org_id == org.id, s.where(org)).values(values)
    session.execute(statement, execution_options={"synchronize_session": False})


def update_by_a_subquery(session: Session, s: Step) -> None:
    items, orgs = s.m.Item.__table__, s.m.Org.__table__
    most = select(func.max(items.c.number)).where(items.c.org_id == orgs.c.id).scalar_subquery()
    session.execute(update(orgs).where(s.where(orgs)).values(number=most))


def delete_using(session: Session, s: Step) -> None:
    item, org = s.m.Item.__table__, s.m.Org.__table__
    if session.get_bind().dialect.name == "sqlite":
        session.execute(delete(item).where(item.c.org_id.in_(select(org.c.id).where(s.where(org)))))
    else:
        session.execute(delete(item).where(item.c.org_id == org.c.id, s.where(org)))


def insert_from_select(session: Session, s: Step) -> None:
    item = s.m.Item.__table__
    found = select(item.c.id + 70, item.c.org_id, item.c.kind, literal(s.value)).where(s.where(item))
    session.execute(insert(item).from_select(["id", "org_id", "kind", "number"], found))


def label_from_select(session: Session, s: Step) -> None:
    between, item, tag = s.m.item_labels, s.m.Item, s.m.Label
    found = select(item.id, tag.id).where(tag.id == s.row)
    session.execute(insert(between).from_select(["item_id", "label_id"], found))


def through_a_cte(session: Session, s: Step) -> None:
    if session.get_bind().dialect.name != "postgresql":
        return
    item, grant, between = s.m.Item.__table__, s.m.Grant.__table__, s.m.item_labels
    match s.value % 4:
        case 0:
            changed = update(item).where(s.where(item)).values(kind=s.kind).returning(item.c.id, item.c.number).cte()
            session.execute(select(changed))
        case 1:
            gone = delete(between).where(between.c.item_id == s.row).returning(between.c.item_id).cte()
            session.execute(insert(grant).from_select(["number"], select(gone.c.item_id)))
        case 2:
            moved = update(grant).values(number=s.value).where(grant.c.id == s.row).returning(grant.c.id).cte()
            session.execute(update(item).where(item.c.id.in_(select(moved.c.id))).values(gone=1))
        case _:
            beside = delete(grant).where(grant.c.number == s.value).cte("beside")
            session.execute(select(item.c.id).add_cte(beside))


def core_rows(session: Session, s: Step) -> None:
    """One statement, several sets of parameters."""
    item = s.m.Item.__table__
    where = item.c.id == bindparam("its_id")
    name = s.pick("kind", "number", "org_id", "gone")
    values = [value_of(item.c[name], s.value), value_of(item.c[name], s.value + 1)]
    given = [{"its_id": s.row + i, "new": value} for i, value in enumerate(values)]
    session.connection().execute(update(item).where(where).values({name: bindparam("new")}), given)


def core_delete(session: Session, s: Step) -> None:
    """One row by its key; what refers to it goes or stays as the database says."""
    table = s.pick(s.m.Org, s.m.Item, s.m.Label, s.m.Membership).__table__
    first = next(iter(table.primary_key.columns))
    session.execute(delete(table).where(first == s.row))


def core_rekey(session: Session, s: Step) -> None:
    """A key, or what others refer to, gets another value; what refers to it follows, or does not let it."""
    org, item, tag = (each.__table__ for each in (s.m.Org, s.m.Item, s.m.Label))
    session.execute(
        s.pick(
            update(tag).where(tag.c.id == s.row).values(code=str(s.value + 5)),
            update(org).where(org.c.id == s.row).values(id=s.row + 30),
            update(tag).where(tag.c.id == s.row).values(id=s.row + 30),
            update(item).where(item.c.id == s.row).values(id=s.row + 30),
        )
    )


def core_label(session: Session, s: Step) -> None:
    between = s.m.item_labels
    match s.value % 3:
        case 0:
            session.execute(insert(between).values(item_id=s.row, label_id=1 + s.value % 3))
        case 1:
            session.execute(update(between).where(between.c.item_id == s.row).values(label_id=1 + s.value % 3))
        case _:
            session.execute(delete(between).where(between.c.label_id == s.row))


def core_pairs(session: Session, s: Step) -> None:
    member = s.m.Membership.__table__
    where = tuple_(member.c.org_id, member.c.label_code).in_([(s.row, str(s.row)), (s.value, "1")])
    session.execute(s.pick(delete(member).where(where), update(member).where(where).values(role=s.kind)))


def core_insert(session: Session, s: Step) -> None:
    """The database gives the key, and a value of a declared column."""
    session.execute(insert(s.m.Grant).values(number=s.value))
    version = {"version": 1} if s.m.plan.has_versions else {}
    session.execute(insert(s.m.Org.__table__).values(id=80 + s.row, kind=s.kind, gone=0, **version))


def to_the_default(session: Session, s: Step) -> None:
    orgs = s.m.Org.__table__
    new = text("DEFAULT") if session.get_bind().dialect.name != "sqlite" else 2
    session.execute(update(orgs).where(orgs.c.id == s.row).values(level=new))


def by_an_expression(session: Session, s: Step) -> None:
    orgs = s.m.Org.__table__
    session.execute(update(orgs).where(orgs.c.id == s.row).values(number=orgs.c.number + 1))


def truncate(session: Session, s: Step) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(s.pick("TRUNCATE item_labels", "TRUNCATE items CASCADE", "TRUNCATE ONLY grants")))


def _of_their_own_dialect(session: Session) -> list[TextClause]:
    if session.get_bind().dialect.name in ("mysql", "mariadb"):
        return [text("UPDATE orgs o JOIN items i ON i.org_id = o.id SET o.number = :row, i.kind = :kind")]
    return [
        text("WITH items AS (SELECT id FROM orgs WHERE kind = :kind) UPDATE items SET number = :row"),
        text(
            "INSERT INTO item_labels (item_id, label_id) SELECT id, :row FROM items WHERE kind = :kind "
            "ON CONFLICT DO NOTHING"
        ),
        text(
            "UPDATE items SET kind = o.kind FROM orgs AS o WHERE o.id = items.org_id AND o.number = :row "
            "AND o.kind <> :kind"
        ),
    ]


def by_hand(session: Session, s: Step) -> None:
    session.execute(
        s.pick(
            text("UPDATE items SET kind = :kind WHERE number = :row"),
            text("DELETE FROM labels WHERE id = :row AND :kind = :kind"),
            text("INSERT INTO item_labels (item_id, label_id) SELECT id, :row FROM items WHERE kind = :kind"),
            text("UPDATE memberships SET role = :kind WHERE org_id = :row"),
            text("UPDATE items SET number = :row WHERE org_id IN (SELECT id FROM orgs WHERE kind = :kind)"),
            text("DELETE FROM orgs WHERE id = :row AND kind <> :kind"),
            text("UPDATE labels SET id = id + 300 WHERE id = :row AND :kind = :kind"),
            *_of_their_own_dialect(session),
        ),
        {"kind": s.kind, "row": s.row},
    )


def by_the_driver(session: Session, s: Step) -> None:
    session.connection().exec_driver_sql(f"UPDATE items SET number = {s.value} WHERE id = {s.row}")


# ---- transactions


def in_a_savepoint(session: Session, s: Step) -> None:
    with session.begin_nested():
        _simple(session, s)


def undone(session: Session, s: Step) -> None:
    nested = session.begin_nested()
    _simple(session, s)
    session.flush()
    nested.rollback()


def partly_undone(session: Session, s: Step) -> None:
    with session.begin_nested():
        hide(session, s)
        session.flush()
        inner = session.begin_nested()
        _simple(session, s)
        session.flush()
        inner.rollback()
    by_an_expression(session, s)


def give_up(session: Session, s: Step) -> None:
    _simple(session, s)
    session.flush()
    session.rollback()


def commit_between(session: Session, s: Step) -> None:
    _simple(session, s)
    session.commit()


def _simple(session: Session, s: Step) -> None:
    s.pick(hide, by_an_expression, core_rows, label, bulk_delete, add_a_party)(session, s)


WAYS: tuple[Callable[[Session, Step], None], ...] = (
    *(add_an_org, add_an_item, add_by_relations, add_a_party, change, change, change, change_a_key, remove),
    *(remove_by_key, merge, relate, label, label, associate, grant, write_later, hide, put_into_json),
    *(bulk_update, bulk_update, bulk_update_by_key, bulk_insert, bulk_mappings, bulk_delete, by_a_query),
    *(by_a_class_of_several_tables, upsert, upsert_by_another_key, upsert_a_pair, upsert_many, update_from),
    *(update_by_a_subquery, delete_using, insert_from_select, label_from_select, through_a_cte, core_rows),
    *(
        core_delete,
        core_delete,
        core_rekey,
        core_label,
        core_pairs,
        core_insert,
        to_the_default,
        by_an_expression,
        truncate,
        by_hand,
        by_the_driver,
    ),
    *(in_a_savepoint, undone, partly_undone, give_up, commit_between),
)
BY_NAME = {each.__name__: each for each in WAYS}

steps = st.builds(
    Written,
    name=st.sampled_from([each.__name__ for each in WAYS]),
    row=st.integers(1, 5),
    value=st.integers(0, 6),
    term=terms,
)


@dataclass(frozen=True)
class Transaction:
    """Some writes, and whether it looks at what it has written before it commits, in two phases if the database can."""

    steps: tuple[Written, ...]
    looks: bool
    is_twophase: bool


transactions = st.builds(
    Transaction,
    steps=st.lists(steps, min_size=1, max_size=2).map(tuple),
    looks=st.sampled_from((False, False, False, True)),
    is_twophase=st.sampled_from((False, False, False, False, True)),
)
