"""A page is one statement, so that all of it is of one moment, and what a listener hides stays hidden."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, func, make_url, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    defer,
    joinedload,
    load_only,
    mapped_column,
    selectinload,
    subqueryload,
    with_loader_criteria,
)

from perfkit.paging import keyset
from perfkit.sqla.asked import asked_of
from tests.paging.conftest import Within
from tests.paging.models import Base, Item, Owner, Pet, Tag, fill
from tests.paging.walks import forward, items

OTHER = aliased(Item)
ONE_STATEMENT = {
    "entities": select(Item).order_by(Item.note),
    "of a subclass": select(Pet).order_by(Pet.name.desc()),
    "an alias": select(OTHER).order_by(OTHER.note),
    "two": select(Item, Owner).outerjoin(Owner).order_by(Owner.name, Item.id.desc()),
    "filtered by another table": select(Item).join(Item.owner).where(Owner.id > 1).order_by(Item.note),
    "a joined collection": select(Item).options(joinedload(Item.tags)).order_by(Item.note),
    "what they belong to": select(Item).options(joinedload(Item.owner)).order_by(Item.note),
    "some of their columns": select(Item).options(load_only(Item.name)).order_by(Item.note),
    "without their key": select(Item).options(defer(Item.note)).order_by(Item.note),
    "window": select(Item.id, func.rank().over(order_by=Item.rank).label("r")).order_by(Item.note),
    "union": select(Item.id, Item.note).union(select(Owner.id, Owner.name)).order_by("note"),
}
ONE_AFTER_ANOTHER = {
    "columns": select(Item.id, Item.note).order_by(Item.note),
    "an entity and more": select(Item, func.lower(Item.name)).order_by(Item.note),
    "groups": select(Item.rank, func.count()).group_by(Item.name, Item.rank).order_by(func.count().desc()),
    "locked": select(Item).order_by(Item.note).with_for_update(),
}


def most_asked(session: Session, statement) -> int:
    """The statements of the page that takes most."""
    most, after = 0, None
    while True:
        with asked_of(session.connection()) as asked:
            page = keyset(session, statement, size=3, after=after)
        most = max(most, len(asked))
        if page.next is None:
            return most
        after = page.next


@pytest.mark.parametrize("name", ONE_STATEMENT)
def test_a_page_is_one_statement(name: str, within: Within) -> None:
    """However many branches there are, on each database."""
    within(lambda session: most_asked(session, ONE_STATEMENT[name]) == 1 or pytest.fail("more than one"))


@pytest.mark.parametrize("name", ONE_AFTER_ANOTHER)
def test_some_pages_are_a_statement_for_each_branch(name: str, within_sqlite: Within) -> None:
    """The documentation names them."""
    within_sqlite(lambda session: most_asked(session, ONE_AFTER_ANOTHER[name]) > 1 or pytest.fail("one"))


@pytest.mark.parametrize("load", [selectinload, subqueryload])
def test_collections_of_a_page_are_loaded_once(load, within: Within) -> None:
    def check(session: Session) -> None:
        statement = select(Item).options(load(Item.tags)).order_by(Item.note)
        assert most_asked(session, statement) == 2
        for item in items(forward(session, statement, 3)):
            tags = session.scalars(select(Tag.label).where(Tag.item_id == item.id).order_by(Tag.label)).all()
            assert [tag.label for tag in item.tags] == tags

    within(check)


@pytest.mark.parametrize("statement", [select(Item).order_by(Item.note), select(OTHER).order_by(OTHER.note)])
def test_what_a_listener_hides_is_on_no_page(statement, within: Within) -> None:
    """A tenant's filter that is put onto each statement of a session holds in every branch."""

    def check(session: Session) -> None:
        @event.listens_for(session, "do_orm_execute")
        def hide(state) -> None:
            if state.is_select and not state.is_column_load and not state.is_relationship_load:
                state.statement = state.statement.options(
                    with_loader_criteria(Item, lambda cls: cls.rank > 1, include_aliases=True)
                )

        expected = session.scalars(statement).all()
        pages = forward(session, statement, 3)
        assert {item.id for item in items(pages)} == {item.id for item in expected}
        assert len(items(pages)) == len(expected) < 60
        assert all(len(page) == 3 for page in pages[:-1])

    within(check)


def test_an_entity_of_one_column_has_pages() -> None:
    """Its key was taken for a column that stands in the row, where the entity is."""

    class Own(DeclarativeBase):
        pass

    class Code(Own):
        __tablename__ = "codes"
        code: Mapped[str] = mapped_column(primary_key=True)

    engine = create_engine("sqlite://")
    Own.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Code(code=letter) for letter in "abcde")
        session.flush()
        assert [code.code for code in items(forward(session, select(Code), 2))] == list("abcde")
    engine.dispose()


@pytest.fixture
def shop(pg_databases) -> Iterator[Engine]:
    """A shop that is written to while it is read."""
    engine = create_engine(make_url(pg_databases()).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        fill(session)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def test_a_row_that_moves_while_a_page_is_read_is_on_it_once(shop: Engine) -> None:
    """Under READ COMMITTED each statement has a snapshot of its own, and a row went from one branch to the next."""
    statement = select(Item).order_by(Item.note)
    moved: list[int] = []
    with Session(shop) as session:
        start = keyset(session, statement, size=1)
        whole = keyset(session, statement, size=100, after=start.next).items
        first = whole[0].id
        assert whole[0].note is not None
        session.expire_all()

        @event.listens_for(session.get_bind(), "after_cursor_execute")
        def move(connection, cursor, sql, *_) -> None:
            if "perfkit_key_0" in sql and not moved:
                moved.append(first)
                with shop.connect() as other, other.begin():
                    other.execute(text("UPDATE items SET note = NULL WHERE id = :id"), {"id": first})

        page = keyset(session, statement, size=100, after=start.next)

        assert moved == [first]
        assert [item.id for item in page.items] == [item.id for item in whole]
