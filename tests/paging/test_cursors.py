"""A cursor is good for the ordering, scope and filter that it was made for, and nothing else is a cursor."""

from __future__ import annotations

import random
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, event, func, select
from sqlalchemy.orm import Session, aliased

from perfkit.errors import InvalidCursor, PagingDeclarationError
from perfkit.paging import Cursors, keyset
from tests.paging.models import Item, Owner

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
BY_RANK = select(Item).order_by(Item.rank, Item.note.desc())


def refused(session: Session, text: object, statement=BY_RANK, **options) -> bool:
    """Whether a cursor is refused, both ways, before anything is asked of the database."""
    asked: list[str] = []
    bind = session.get_bind()
    event.listen(bind, "before_cursor_execute", lambda *told: asked.append(told[2]))
    for way in ("after", "before"):
        with pytest.raises(InvalidCursor):
            keyset(session, statement, size=3, **{way: text}, **options)
    return not asked


@pytest.fixture
def given(within_sqlite):
    """Calls a function with a session and the cursor of a first page."""

    def call(function, **options):
        def inside(session: Session) -> None:
            page = keyset(session, BY_RANK, size=4, **options)
            assert page.next is not None
            function(session, page.next)

        within_sqlite(inside)

    return call


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_cursor_with_any_letter_changed_is_refused(given, encrypt):
    """Also where the change is in bits that base64 does not use."""
    cursors = Cursors([NEW], encrypt=encrypt)

    def check(session, cursor):
        for place in range(len(cursor)):
            for letter in "Aa_9":
                if cursor[place] != letter:
                    assert refused(session, cursor[:place] + letter + cursor[place + 1 :], cursors=cursors)

    given(check, cursors=cursors)


def test_what_is_no_cursor_is_refused(given):
    """Nothing of it is believed, and nothing of it costs more than looking at it."""
    chance = random.Random(3)
    strange = [
        "",
        "x",
        "=",
        "====",
        "a" * 1_000_000,
        "ä",
        "\0",
        ">i:1~s:x",
        "null",
        "W10",
        7,
        b"AAAA",
        ["a"],
        " ",
        "%00",
    ]
    strange += [urlsafe_b64encode(chance.randbytes(n)).decode().rstrip("=") for n in range(1, 120)]
    strange += [urlsafe_b64encode(b"\x01" + chance.randbytes(n)).decode().rstrip("=") for n in range(1, 120)]

    def check(session, cursor):
        variants = [cursor[:-1], cursor[1:], cursor + "A", cursor + "=", cursor + "\n", " " + cursor, cursor * 2]
        version = b"\x02" + urlsafe_b64decode(cursor + "==")[1:]
        for text in (*strange, *variants, urlsafe_b64encode(version).decode().rstrip("=")):
            assert refused(session, text), text

    given(check)


def test_a_cursor_is_of_one_ordering(given):
    """Another column, direction, place of NULLs or number of keys is another ordering."""

    def check(session, cursor):
        for other in (
            select(Item).order_by(Item.rank, Item.note),
            select(Item).order_by(Item.rank),
            select(Item).order_by(Item.rank, Item.note.desc().nulls_first()),
            select(Item).order_by(Item.rank, Item.name.desc()),
            select(Owner).order_by(Owner.name),
        ):
            assert refused(session, cursor, other)
        same = select(Item).where(Item.active).order_by(Item.rank, Item.note.desc(), Item.id)
        assert keyset(session, same, size=3, after=cursor).has_previous

    given(check)


def test_a_cursor_is_not_good_where_names_and_keys_are_alike_by_chance(within_sqlite):
    """An alias of another table, a subquery of other columns, and a column that has been given another type."""
    item, owner = aliased(Item, name="x"), aliased(Owner, name="x")
    ranks = select(Item.id, Item.rank.label("by")).subquery("q")
    prices = select(Item.id, Item.price.label("by")).subquery("q")
    numbers = Table("items", MetaData(), Column("id", Integer, primary_key=True), Column("rank", Integer))
    texts = Table("items", MetaData(), Column("id", Integer, primary_key=True), Column("rank", String))

    def check(session):
        for made, given in (
            (select(item).order_by(item.name), select(owner).order_by(owner.name)),
            (select(item).order_by(func.lower(item.name)), select(owner).order_by(func.lower(owner.name))),
            (select(ranks).order_by(ranks.c.by, ranks.c.id), select(prices).order_by(prices.c.by, prices.c.id)),
            (select(numbers).order_by(numbers.c.rank), select(texts).order_by(texts.c.rank)),
        ):
            cursor = keyset(session, made, size=3).next
            assert keyset(session, made, size=3, after=cursor).items
            assert refused(session, cursor, given)

    within_sqlite(check)


def test_a_cursor_is_of_one_scope_and_filter_if_asked(given):
    """One tenant's is nothing for another, and what was made beside another WHERE is refused."""
    mine = {"scope": "tenant 1", "bind_filter": True}

    def check(session, cursor):
        assert keyset(session, BY_RANK, size=3, after=cursor, **mine).items
        assert refused(session, cursor, scope="tenant 2", bind_filter=True)
        assert refused(session, cursor)
        assert refused(session, cursor, BY_RANK.where(Item.rank > 1), **mine)

    given(check, **mine)


def test_the_values_of_a_filter_are_part_of_it(within_sqlite):
    """`rank > 1` is not `rank > 2`."""

    def check(session):
        one, two = BY_RANK.where(Item.rank > 1), BY_RANK.where(Item.rank > 2)
        cursor = keyset(session, one, size=2, bind_filter=True).next
        assert keyset(session, one, size=2, after=cursor, bind_filter=True).items
        assert refused(session, cursor, two, bind_filter=True)

    within_sqlite(check)


def test_secrets_are_changed_without_breaking_cursors(given):
    """The first signs, all are believed; who knows none of them can make none."""

    def check(session, cursor):
        assert keyset(session, BY_RANK, size=3, after=cursor, cursors=Cursors([NEW, OLD])).items
        assert refused(session, cursor, cursors=Cursors([NEW]))
        assert refused(session, cursor)

    given(check, cursors=Cursors([OLD]))


def test_an_encrypted_cursor_does_not_show_its_values(within_sqlite):
    """A signed one does."""

    def check(session):
        statement = select(Owner).order_by(Owner.name)
        shown, hidden = (
            keyset(session, statement, size=1, cursors=Cursors([NEW], encrypt=encrypt)).next
            for encrypt in (False, True)
        )
        assert b"o0" in urlsafe_b64decode(shown + "==")
        assert b"o0" not in urlsafe_b64decode(hidden + "==")

    within_sqlite(check)


@pytest.mark.parametrize("secrets", [[], [b"short"], b"a" * 32, "a" * 32, [None]])
def test_a_weak_secret_is_refused_at_once(secrets):
    with pytest.raises(PagingDeclarationError):
        Cursors(secrets)
