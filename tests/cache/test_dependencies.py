"""Functions without tags: what they are found to depend on, what that costs, and of what nobody can tell it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, Table, create_engine, func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit import Cache
from perfkit.cache import MemoryStore, Reason, only
from perfkit.errors import CacheDeclarationError, NotCached, UnknownTag
from tests.cache.conftest import Base, Bin, Team


def counted(name: str) -> Any:
    """A command of the store, which notes that it was asked for."""

    async def command(self: Counting, *args: Any) -> Any:
        self.asked.append(name)
        return await getattr(self._real, name)(*args)

    return command


class Counting:
    """A store that waits, as a server would be waited for; counts what it is asked."""

    # in the class: from Python 3.12 on, a protocol is not looked for behind __getattr__
    read, ensure, put, mark, bump, drop, claim, release = map(
        counted, ("read", "ensure", "put", "mark", "bump", "drop", "claim", "release")
    )

    def __init__(self) -> None:
        self._real = MemoryStore()
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "read_now":
            raise AttributeError(name)
        return getattr(self._real, name)

    def spent(self) -> list[str]:
        spent, self.asked = self.asked, []
        return spent


class Place:
    """A database with two bins and a view of them, and a cache that has found out nothing yet."""

    def __init__(self, path: Any) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        self.store = Counting()
        self.cache = Cache("found")
        Base.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(text("CREATE VIEW glass AS SELECT * FROM bins WHERE kind = 'glass'"))
        self.cache.connect(self.store)
        self.cache.watch(self.engine, Base.metadata)
        self.write(lambda s: s.add_all([Bin(id=1, name="one"), Bin(id=2, name="two"), Team(id=1, name="north")]))
        self.store.spent()

    def write(self, change: Callable[[Session], Any]) -> None:
        with Session(self.engine) as session:
            change(session)
            session.commit()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        with Session(self.engine) as session:
            return function(session, *args)

    def is_kept(self, function: Callable[..., Any], *args: Any) -> bool:
        before = self.cache.stats().hits
        self.call(function, *args)
        self.call(function, *args)
        return self.cache.stats().hits == before + 1


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    made = Place(tmp_path / "found.db")
    yield made
    made.cache.close()
    made.engine.dispose()


def test_a_function_is_looked_at_once_and_then_foreseen(place):
    """The first load captures at each statement; the next key's, before it begins. A hit is one look."""

    @place.cache.query()
    def names(session: Session, bin_id: int) -> list[str | None]:
        return [
            session.scalar(select(Bin.name).where(Bin.id == bin_id)),
            session.scalar(select(Team.name).where(Team.id == bin_id)),
        ]

    place.call(names, 1)
    assert place.store.spent() == ["read", "ensure", "ensure", "ensure", "put"]  # the namespace, each statement
    place.call(names, 1)
    assert place.store.spent() == ["read"]
    place.call(names, 2)
    assert place.store.spent() == ["read", "ensure", "put"]
    place.write(lambda s: s.add(Bin(name="three")))
    place.store.spent()
    place.call(names, 2)
    assert place.store.spent() == ["read"]


def test_another_process_hits_what_it_has_never_loaded(place):
    """The entry bears its tags; who did not expect them looks a second time, once."""

    def name_of(session: Session, bin_id: int) -> str | None:
        return session.scalar(select(Bin.name).where(Bin.id == bin_id))

    first = place.cache.query()(name_of)
    place.call(first, 1)
    other = Cache("found")
    second = other.query()(name_of)
    other.connect(place.store)
    other.watch(place.engine, Base.metadata)
    place.store.spent()

    assert place.call(second, 1) == "one"
    assert place.store.spent() == ["read", "read"]
    assert place.call(second, 1) == "one"
    assert place.store.spent() == ["read"]
    assert other.stats().hits == 2
    other.close()


@pytest.mark.parametrize(
    ("statement", "reason", "message"),
    [
        (select(func.current_timestamp()), Reason.VOLATILE, "CURRENT_TIMESTAMP changes by itself"),
        (select(Bin.id).order_by(func.random()), Reason.VOLATILE, "RANDOM changes by itself"),
        (text("SELECT count(*) FROM glass"), Reason.UNKNOWN_READS, "glass is a view; say what it reads"),
        (select(func.my_sum(Bin.id)), Reason.UNKNOWN_READS, "the function my_sum may read any table"),
        (text("SELECT count(*) FROM bins WHERE"), Reason.UNKNOWN_READS, "cannot be parsed"),
    ],
)
def test_what_cannot_be_known_is_not_kept_and_said_once(place, statement, reason, message):
    """With the function's name and what to do."""

    @place.cache.query()
    def asked(session: Session) -> int | None:
        with suppress(SQLAlchemyError):
            session.execute(statement)
        return 1

    with pytest.warns(NotCached, match=message) as told:
        assert not place.is_kept(asked)
    assert len(told) == 1
    assert "asked" in str(told[0].message)
    assert place.cache.stats().unkept == {reason: 2}


def test_a_function_without_statements_asks_for_tags(place):
    """Nobody can tell what would renew it."""

    @place.cache.query()
    def nothing(session: Session) -> int:
        return 1

    with pytest.warns(NotCached, match="give tags"):
        assert not place.is_kept(nothing)

    @place.cache.query(tags="price-list:all")
    def listed(session: Session) -> int:
        return 1

    assert place.is_kept(listed)


def test_what_is_said_of_a_view_is_believed(place):
    """By the function, or for all functions by `watch`."""

    @place.cache.query(reads={"Glass": "bins"})
    def count(session: Session) -> int | None:
        return session.scalar(text("SELECT count(*) FROM glass"))

    assert place.is_kept(count)
    place.write(lambda s: s.add(Bin(name="three")))
    assert place.call(count) == 3


def test_a_view_of_a_view_depends_on_what_is_said_of_both(place):
    """And a table may be named as SQL names it, in any case."""
    with place.engine.begin() as connection:
        connection.execute(text("CREATE VIEW some_glass AS SELECT * FROM glass"))

    @place.cache.query(reads={"some_glass": ["glass"], "glass": ["Bins"]})
    def count(session: Session) -> int | None:
        return session.scalar(text("SELECT count(*) FROM some_glass"))

    assert place.is_kept(count)
    place.write(lambda s: s.add(Bin(name="three")))
    assert place.call(count) == 3


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ({"glass": ["bin"]}, "names 'bin', which is no table that is known; did you mean 'bins'?"),
        ({"glass": ["bins", "some_glass"]}, "some_glass is a view, too"),
    ],
)
def test_a_view_that_is_said_to_read_what_no_write_would_mark_is_not_kept(place, reads, message):
    """A misspelt table would leave its results in the cache for good."""
    with place.engine.begin() as connection:
        connection.execute(text("CREATE VIEW some_glass AS SELECT * FROM glass"))

    @place.cache.query(reads=reads)
    def count(session: Session) -> int | None:
        return session.scalar(text("SELECT count(*) FROM glass"))

    with pytest.warns(NotCached, match=re.escape(message)):
        assert not place.is_kept(count)
    place.write(lambda s: s.add(Bin(name="three")))
    assert place.call(count) == 3


def test_tags_add_and_only_replaces(place):
    """What `only` leaves out renews nothing, which is its purpose."""

    @place.cache.query(tags="board:all")
    def added(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    @place.cache.query(tags=only("board:all"))
    def replaced(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    assert [place.call(added), place.call(replaced)] == [2, 2]
    place.write(lambda s: s.add(Bin(name="three")))
    assert [place.call(added), place.call(replaced)] == [3, 2]
    place.cache.bump("board:all")
    before = place.cache.stats().fills
    assert [place.call(added), place.call(replaced)] == [3, 3]
    assert place.cache.stats().fills == before + 2


def test_a_function_that_another_cache_answers_is_not_kept(place):
    """Its tags would say nothing of what the other one read."""
    other = Cache("other")
    inner = other.query()(lambda session: 1)
    del inner

    @other.query(tags=only("bins"))
    def count(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    @place.cache.query()
    def twice(session: Session) -> int:
        return 2 * (count(session) or 0)

    other.connect()
    other.watch(place.engine, Base.metadata)
    place.call(count)
    with pytest.warns(NotCached, match="another cache"):
        assert not place.is_kept(twice)
    other.close()


def test_a_function_that_is_kept_tells_nobody_anything(place):
    """No warning where nothing is wrong."""

    @place.cache.query()
    def count(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert place.is_kept(count)


@pytest.mark.parametrize("reads", [{"glass": [1]}, {1: ["bins"]}, {"glass": [""]}])
def test_reads_that_are_no_names_are_refused(reads):
    """When declared."""
    with pytest.raises(UnknownTag, match="give a list of table names"):
        Cache("found").query(reads=reads)


def test_reads_that_are_a_list_are_refused():
    """When declared: of which view they are is not said."""
    with pytest.raises(UnknownTag, match="give a dict"):
        Cache("found").query(reads=["bins"])


def test_only_of_nothing_is_refused():
    """No write would ever renew the result."""
    with pytest.raises(CacheDeclarationError, match="name what the result depends on"):
        Cache("found").query(tags=only())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("org",), "'org' is no column of parts; did you mean 'org_id'"),
        ("org_id", "give a tuple"),
        (("weight",), "values that are equal and look different"),
    ],
)
def test_declared_columns_that_cannot_work_are_refused_at_start_up(tmp_path, names, message):
    """With the class, the column and the nearest name."""

    class Own(DeclarativeBase): ...

    class Part(Own):
        __tablename__ = "parts"
        __cache_tags__ = names
        id: Mapped[int] = mapped_column(primary_key=True)
        org_id: Mapped[int]
        weight: Mapped[float] = mapped_column(Float)

    cache = Cache("found")
    cache.connect()
    engine = create_engine(f"sqlite:///{tmp_path}/parts.db")
    with pytest.raises(UnknownTag, match=message):
        cache.watch(engine, Own.metadata)
    cache.close()
    engine.dispose()


def test_a_column_that_a_second_cache_declares_is_looked_for_in_statements_that_ran_before(tmp_path):
    """The UPDATE had been looked at when no column was declared: only where the row went was announced."""

    class Own(DeclarativeBase): ...

    class Part(Own):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        org_id: Mapped[int]

    def move(org_id: int) -> None:
        with engine.begin() as connection:
            connection.execute(update(Part).where(Part.id == 1).values(org_id=org_id))

    def ids_of(session: Session, org_id: int) -> list[int]:
        return list(session.scalars(select(Part.id).where(Part.org_id == org_id)))

    engine = create_engine(f"sqlite:///{tmp_path}/parts.db")
    Own.metadata.create_all(engine)
    first, second = Cache("first"), Cache("second")
    cached_ids_of = second.query(ids_of)
    for cache in (first, second):
        cache.connect()
    first.watch(engine, Own.metadata)
    with Session(engine) as session:
        session.add(Part(id=1, org_id=1))
        session.commit()
    move(1)
    Part.__cache_tags__ = ("org_id",)
    second.watch(engine, Own.metadata)

    with Session(engine) as session:
        before = [cached_ids_of(session, 1), cached_ids_of(session, 2)]
    move(2)
    with Session(engine) as session:
        after = [cached_ids_of(session, 1), cached_ids_of(session, 2)]

    assert (before, after) == ([[1], []], [[], [1]])
    first.close()
    second.close()
    engine.dispose()


def test_a_column_declared_of_a_table_must_be_there(tmp_path):
    """As of a class."""
    metadata = MetaData()
    Table("parts", metadata, Column("id", Integer, primary_key=True), info={"cache_tags": ("org_id",)})
    cache = Cache("found")
    cache.connect()
    engine = create_engine(f"sqlite:///{tmp_path}/parts.db")
    with pytest.raises(UnknownTag, match="'org_id', which is none of its columns"):
        cache.watch(engine, metadata)
    cache.close()
    engine.dispose()


@pytest.mark.filterwarnings("ignore:Implicitly combining column")
def test_a_class_that_inherits_may_declare_a_column_that_its_parent_has_too(tmp_path):
    """Each of the tables has one of that name."""

    class Own(DeclarativeBase): ...

    class Part(Own):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        org_id: Mapped[int]

    class Small(Part):
        __tablename__ = "small_parts"
        __cache_tags__ = ("org_id",)
        id: Mapped[int] = mapped_column(ForeignKey(Part.id), primary_key=True)
        org_id: Mapped[int] = mapped_column()

    cache = Cache("found")
    cache.connect()
    engine = create_engine(f"sqlite:///{tmp_path}/parts.db")
    cache.watch(engine, Own.metadata)

    assert Small.__table__.info["cache_tags"] == ("org_id",)
    assert "cache_tags" not in Part.__table__.info
    cache.close()
    engine.dispose()
