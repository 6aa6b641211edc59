"""The classes of an application, as its plan draws them: each is mapped in the ways that applications map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Computed,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    func,
    select,
    text,
)
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Session, column_property, mapped_column, relationship

ACTIONS = (None, "CASCADE", "SET NULL")
ACTION = st.sampled_from((*ACTIONS, "CASCADE"))
LAZY = st.sampled_from((*["select"] * 8, "selectin", "joined", "subquery", "immediate"))
DECLARED = {
    "orgs": ("id", "kind", "number", "gone", "level", "twice"),
    "items": ("org_id", "parent_id", "kind", "number", "gone"),
    "labels": ("code",),
    "item_labels": ("item_id", "label_id"),
    "memberships": ("org_id", "label_code", "role"),
    "grants": ("org_id", "label_code", "number"),
    "parties": ("what", "kind", "number"),
    "persons": ("nick", "kind"),
    "firms": ("size", "org_id"),
}


@dataclass(frozen=True)
class Plan:
    """What is drawn of an application.

    `tags` are the declared columns, by table. `rules` are the referential actions, by table and kind. `logs`: triggers
    write a log, and `touch` says so before or after each write.
    """

    tags: frozenset[tuple[str, str]]
    rules: dict[str, str | None]
    lazy: dict[str, str]
    passive: Any
    inheritance: str
    polymorphic: str
    has_secondary_key: bool
    has_versions: bool
    is_written_later: bool
    logs: str
    l1: str


plans = st.builds(
    Plan,
    tags=st.frozensets(st.sampled_from([(table, name) for table, names in DECLARED.items() for name in names])),
    rules=st.fixed_dictionaries(
        {
            f"{table} {kind}": ACTION
            for table in ("items", "tree", "secondary", "memberships", "grants", "firms")
            for kind in ("ondelete", "onupdate")
        }
    ),
    lazy=st.fixed_dictionaries(dict.fromkeys(("items", "org", "children", "labels", "members"), LAZY)),
    passive=st.sampled_from((False, True, "all")),
    inheritance=st.sampled_from(("single", "joined", "joined", "concrete")),
    polymorphic=st.sampled_from(("", "inline", "selectin", "*")),
    has_secondary_key=st.booleans(),
    has_versions=st.booleans(),
    is_written_later=st.sampled_from((False, False, True)),
    logs=st.sampled_from(("", "before", "after")),
    l1=st.sampled_from(("auto", "off")),
)


_worlds = count()


class Models:
    """The classes and tables of one application."""

    def __init__(self, plan: Plan) -> None:
        class Base(DeclarativeBase):
            type_annotation_map = {str: String(20)}  # noqa: RUF012

        self.plan, self.Base, self.metadata = plan, Base, Base.metadata
        self.Org, self.Item, self.Label = self._org(), self._item(), self._label()
        self.Membership, self.Grant, self.Log = self._membership(), self._grant(), self._log()
        self.item_labels = self._secondary()
        self.Party, self.Person, self.Firm = self._parties()
        self._relate()
        for each in (*self.roots, self.Log):
            each.__qualname__ = f"{each.__name__}{next(_worlds)}"  # what is kept of an entity names its class
        self.busy = Table("busy", MetaData(), Column("org_id", Integer), Column("items", Integer))
        Base.registry.configure()

    @property
    def roots(self) -> list[Any]:
        """The classes that have rows of their own."""
        return [self.Org, self.Item, self.Label, self.Membership, self.Grant, self.Party, self.Person, self.Firm]

    def in_bulk(self, cls: Any) -> Any:
        """The class, or another one: SQLAlchemy has no bulk statements for concrete classes that load each other."""
        is_concrete = self.plan.inheritance == "concrete" and cls in (self.Party, self.Person, self.Firm)
        return self.Item if is_concrete else cls

    def _declared(self, table: str) -> tuple[str, ...]:
        return tuple(name for name in DECLARED[table] if (table, name) in self.plan.tags)

    def _rules(self, name: str, *, is_key: bool = False) -> dict[str, Any]:
        """A key cannot become NULL."""
        rules = {kind: self.plan.rules[f"{name} {kind}"] for kind in ("ondelete", "onupdate")}
        return {kind: None if is_key and rule == "SET NULL" else rule for kind, rule in rules.items()}

    def _org(self) -> Any:
        version = mapped_column("version", Integer)

        class Org(self.Base):
            __tablename__ = "orgs"
            __cache_tags__ = self._declared("orgs")
            id = mapped_column(Integer, primary_key=True, autoincrement=False)
            kind = mapped_column(String(20))
            number = mapped_column(Integer)
            gone = mapped_column(Integer, default=0)
            level = mapped_column(Integer, server_default=text("2"))
            twice = mapped_column(Integer, Computed("number * 2", persisted=True))
            data = mapped_column(JSON)
            numbers = mapped_column(ARRAY(Integer).with_variant(JSON(), "sqlite", "mariadb", "mysql"))
            if self.plan.has_versions:
                version_id = version
                __mapper_args__ = {"version_id_col": version}

            @hybrid_property
            def rank(self) -> Any:
                return (self.number or 0) * 10 + (self.level or 0)

            @rank.inplace.expression
            @classmethod
            def _rank(cls) -> Any:
                return func.coalesce(cls.number, 0) * 10 + func.coalesce(cls.level, 0)

        return Org

    def _item(self) -> Any:
        class Item(self.Base):
            __tablename__ = "items"
            __cache_tags__ = self._declared("items")
            id = mapped_column(Integer, primary_key=True, autoincrement=False)
            org_id = mapped_column(Integer, ForeignKey("orgs.id", **self._rules("items")))
            parent_id = mapped_column(Integer, ForeignKey("items.id", name="tree", **self._rules("tree")))
            kind = mapped_column(String(20))
            number = mapped_column(Integer)
            gone = mapped_column(Integer, default=0)

        return Item

    def _label(self) -> Any:
        class Label(self.Base):
            __tablename__ = "labels"
            __cache_tags__ = self._declared("labels")
            id = mapped_column(Integer, primary_key=True, autoincrement=False)
            code = mapped_column(String(20), unique=True, nullable=False)  # or MariaDB lets no key follow it

        return Label

    def _secondary(self) -> Table:
        is_key = self.plan.has_secondary_key
        rules = self._rules("secondary", is_key=is_key)
        return Table(
            "item_labels",
            self.metadata,
            Column("item_id", Integer, ForeignKey("items.id", **rules), primary_key=is_key),
            Column("label_id", Integer, ForeignKey("labels.id", **rules), primary_key=is_key),
            info={"cache_tags": self._declared("item_labels")},
        )

    def _membership(self) -> Any:
        """An association object; its key is of two columns, one of which refers to no key."""
        rules = self._rules("memberships", is_key=True)

        class Membership(self.Base):
            __tablename__ = "memberships"
            __cache_tags__ = self._declared("memberships")
            org_id = mapped_column(Integer, ForeignKey("orgs.id", **rules), primary_key=True)
            label_code = mapped_column(String(20), ForeignKey("labels.code", **rules), primary_key=True)
            role = mapped_column(String(20))

        return Membership

    def _grant(self) -> Any:
        class Grant(self.Base):
            __tablename__ = "grants"
            __cache_tags__ = self._declared("grants")
            id = mapped_column(Integer, primary_key=True)
            org_id = mapped_column(Integer)
            label_code = mapped_column(String(20))
            number = mapped_column(Integer)
            __table_args__ = (
                ForeignKeyConstraint(
                    ["org_id", "label_code"],
                    ["memberships.org_id", "memberships.label_code"],
                    **self._rules("grants"),
                ),
            )

        return Grant

    def _log(self) -> Any:
        class Log(self.Base):
            __tablename__ = "logs"
            id = mapped_column(Integer, primary_key=True)
            item_id = mapped_column(Integer)
            number = mapped_column(Integer)

        return Log

    def _parties(self) -> tuple[Any, Any, Any]:
        kind = self.plan.inheritance
        bases: Any = (ConcreteBase, self.Base) if kind == "concrete" else (self.Base,)
        load = {} if kind == "concrete" or self.plan.polymorphic in ("", "*") else self.plan.polymorphic
        more = {"polymorphic_load": load} if load else {}
        own: dict[str, Any] = {"polymorphic_identity": "party"}
        if kind == "concrete":
            own["concrete"] = True
        else:
            own["polymorphic_on"] = "what"
            if self.plan.polymorphic == "*":
                own["with_polymorphic"] = "*"
        tags = self._declared("parties")
        body = self._columns() | ({} if kind == "concrete" else {"what": mapped_column(String(20))})
        tags = tuple(name for name in tags if name in body)
        party = type(
            "Party", bases, {"__tablename__": "parties", "__cache_tags__": tags, "__mapper_args__": own, **body}
        )
        made = []
        for name, extra in (("Person", {"nick": mapped_column(String(20))}), ("Firm", self._of_firm())):
            table = f"{name.lower()}s"
            its: dict[str, Any] = {"__mapper_args__": {"polymorphic_identity": name.lower(), **more}, **extra}
            if kind == "joined":
                rules = {"ondelete": "CASCADE", "onupdate": "CASCADE"}
                its["id"] = mapped_column(Integer, ForeignKey("parties.id", **rules), primary_key=True)
            elif kind == "concrete":
                its |= self._columns()
                its["__mapper_args__"] |= {"concrete": True}
            if kind != "single":
                its["__tablename__"] = table
                its["__cache_tags__"] = tuple(each for each in self._declared(table) if each in its)
            made.append(type(name, (party,), its))
        return party, made[0], made[1]

    def _of_firm(self) -> dict[str, Any]:
        return {
            "size": mapped_column(Integer),
            "org_id": mapped_column(Integer, ForeignKey("orgs.id", name="firm_of", **self._rules("firms"))),
        }

    @staticmethod
    def _columns() -> dict[str, Any]:
        return {
            "id": mapped_column(Integer, primary_key=True, autoincrement=False),
            "kind": mapped_column(String(20)),
            "number": mapped_column(Integer),
        }

    def _relate(self) -> None:
        plan, org, item, label, member = self.plan, self.Org, self.Item, self.Label, self.Membership
        both = {"passive_deletes": plan.passive}
        org.items = relationship(item, back_populates="org", lazy=plan.lazy["items"], **both)
        item.org = relationship(org, back_populates="items", lazy=plan.lazy["org"])
        item.children = relationship(item, back_populates="parent", lazy=plan.lazy["children"], join_depth=1, **both)
        item.parent = relationship(item, back_populates="children", remote_side=item.id)
        item.labels = relationship(
            label, secondary=self.item_labels, back_populates="items", lazy=plan.lazy["labels"], passive_deletes=False
        )
        label.items = relationship(item, secondary=self.item_labels, back_populates="labels")
        org.members = relationship(
            member, back_populates="org", lazy=plan.lazy["members"], cascade="all, delete-orphan", **_plain(both)
        )
        member.org = relationship(org, back_populates="members")
        member.label = relationship(label)
        member.grants = relationship(self.Grant, back_populates="member", **both)
        self.Grant.member = relationship(member, back_populates="grants")
        org.labels = association_proxy("members", "label", creator=lambda label: member(label=label, role="by proxy"))
        if plan.is_written_later:
            label.later = relationship(
                member,
                primaryjoin=label.code == member.label_code,
                lazy="write_only",
                overlaps="label",
                passive_deletes=True,
                cascade="all, delete-orphan",
                single_parent=True,
            )
        if plan.inheritance != "concrete":
            self.Firm.org = relationship(org)
        there = select(func.count(item.id)).where(item.org_id == org.id, item.gone == 0)
        org.items_there = column_property(there.correlate_except(item).scalar_subquery())


def _plain(both: dict[str, Any]) -> dict[str, Any]:
    """`all` does not go with a cascade that deletes."""
    return {} if both["passive_deletes"] == "all" else both


def create(connection: Connection, models: Models) -> None:
    """Tables, a view, and the triggers that write the log."""
    models.metadata.create_all(connection)
    connection.execute(
        text("CREATE VIEW busy AS SELECT org_id, count(*) AS items FROM items WHERE gone = 0 GROUP BY org_id")
    )
    if not models.plan.logs:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF TG_OP = 'DELETE' THEN INSERT INTO logs (item_id) VALUES (OLD.id); "
            "ELSE INSERT INTO logs (item_id, number) VALUES (NEW.id, NEW.number); END IF; RETURN NULL; END $$"
        )
    for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        runs = f"BEGIN INSERT INTO logs (item_id, number) VALUES ({row}.id, {row}.number); END"
        if connection.dialect.name == "postgresql":
            runs = "EXECUTE FUNCTION log_it()"
        connection.exec_driver_sql(f"CREATE TRIGGER at_{event} AFTER {event} ON items FOR EACH ROW {runs}")


def drop(connection: Connection, models: Models) -> None:
    """All that `create` has made."""
    connection.execute(text("DROP VIEW IF EXISTS busy"))
    models.metadata.drop_all(connection)


def fill(session: Session, models: Models) -> None:
    """A few rows of each."""
    m = models
    for i in (1, 2, 3):
        session.add(m.Org(id=i, kind="ab"[i % 2], number=i, data={"kind": "ab"[i % 2], "n": [i]}, numbers=[i, 2]))
        session.add(m.Label(id=i, code=str(i)))
    session.flush()
    for i in (1, 2, 3, 4):
        session.add(m.Item(id=i, org_id=1 + i % 3, parent_id=i - 1 or None, kind="ab"[i % 2], number=i % 3, gone=0))
        session.flush()
    for i in (1, 2, 3):
        session.add(m.Membership(org_id=i, label_code=str(i), role="ab"[i % 2]))
        session.flush()
        session.add(m.Grant(id=i, org_id=i, label_code=str(i), number=i))
        session.execute(m.item_labels.insert(), [{"item_id": i, "label_id": i}, {"item_id": i + 1, "label_id": i}])
    session.add(m.Party(id=1, kind="a", number=1))
    session.add(m.Person(id=2, kind="b", number=2, nick="a"))
    session.add(m.Firm(id=3, kind="a", number=3, size=1, org_id=1))
    session.flush()
