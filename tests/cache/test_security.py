"""What somebody who can write to the store, or another tenant, can and cannot do."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import MemoryStore, Reason
from perfkit.cache.entries import Entry, seal
from perfkit.cache.guard import Guard
from perfkit.cache.keeping import Keeping
from perfkit.cache.keys import tenant_text
from perfkit.cache.read import Capture, Hit, Named, Question, judge
from perfkit.cache.store import Seen
from perfkit.codec import Codec
from perfkit.errors import CacheDeclarationError, MissingExtra, UnkeyableArgument, Unreadable
from tests.cache.conftest import Base, Bin

OLD, NEW = b"old secret, of 16+", b"new secret, of 16+"


class Yard:
    """A database, a store, and caches on both: with secrets, without, with others."""

    def __init__(self, path: Any) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            session.add(Bin(name="one"))
            session.commit()
        self.store = MemoryStore()
        self.caches: list[Cache] = []

    def process(self, *, policy: Policy | None = None, **guard: Any) -> tuple[Cache, Any]:
        cache = Cache("yard", policy or Policy(l1="off"))

        @cache.query()
        def names(session: Session, kind: str = "glass") -> list[str]:
            return list(session.scalars(select(Bin.name).where(Bin.kind == kind)))

        cache.connect(self.store, **guard)
        cache.watch(self.engine, Base.metadata)
        self.caches.append(cache)
        return cache, names

    def call(self, function: Any, *args: Any) -> Any:
        with Session(self.engine) as session:
            return function(session, *args)

    def key(self, process: tuple[Cache, Any], *args: Any) -> bytes:
        with Session(self.engine) as session:
            return process[0].key_of(process[1], session, *args).encode()

    def raw(self, key: bytes) -> bytes:
        (raw,) = self.store.read_now([key]).values
        assert raw is not None
        return raw

    def put(self, key: bytes, raw: bytes) -> None:
        self.store._entries[key] = raw, float("inf")

    def close(self) -> None:
        for cache in self.caches:
            cache.close()
        self.engine.dispose()


@pytest.fixture
def yard(tmp_path) -> Iterator[Yard]:
    yard = Yard(tmp_path / "yard.db")
    yield yard
    yard.close()


# ---- who can write to the store


@pytest.mark.parametrize("encrypt", [False, True])
def test_who_does_not_know_the_secret_makes_no_results(yard, encrypt):
    """A wrong value of the right shape, with the right versions, is a miss."""
    process = yard.process(secrets=[NEW], encrypt=encrypt)
    assert yard.call(process[1]) == ["one"]
    assert yard.call(process[1]) == ["one"]
    stats = process[0].stats()
    assert (stats.hits, stats.fills) == (1, 1)
    key, raw = yard.key(process), yard.raw(yard.key(process))
    forged = Guard([OLD], encrypts=encrypt).close(key, b"anything")
    for wrong in (forged, raw[:-1] + bytes([raw[-1] ^ 1]), raw[:20], raw + b"x", b"", raw[:4], raw[4:]):
        yard.put(key, wrong)
        assert yard.call(process[1]) == ["one"]
    assert process[0].stats().odd == {Reason.UNREADABLE: 7}


def test_without_secrets_the_same_forgery_is_believed(yard):
    """Else the test above would show nothing."""
    process = yard.process()
    yard.call(process[1])
    key = yard.key(process)
    form, _, *rest = msgpack.unpackb(yard.raw(key), use_list=False)
    yard.put(key, msgpack.packb((form, Codec().pack(["forged"]), *rest)))
    assert yard.call(process[1]) == ["forged"]


@pytest.mark.parametrize("encrypt", [False, True])
def test_an_entry_that_is_copied_to_another_name_is_none(yard, encrypt):
    """Its name is signed, too."""
    process = yard.process(secrets=[NEW], encrypt=encrypt)
    yard.call(process[1], "glass")
    yard.call(process[1], "paper")
    yard.put(yard.key(process, "paper"), yard.raw(yard.key(process, "glass")))
    assert yard.call(process[1], "paper") == []
    assert process[0].stats().odd == {Reason.UNREADABLE: 1}


@pytest.mark.parametrize("encrypt", [False, True])
def test_secrets_rotate_without_a_miss(yard, encrypt):
    """The new one in front signs, the old one is still believed; when it is gone, what it signed is gone."""
    before = yard.process(secrets=[OLD], encrypt=encrypt)
    yard.call(before[1])
    between = yard.process(secrets=[OLD, NEW], encrypt=encrypt)
    yard.call(between[1])
    assert between[0].stats().hits == 1
    rotated = Guard([NEW, OLD], encrypts=encrypt)
    old, new = Guard([OLD], encrypts=encrypt), Guard([NEW], encrypts=encrypt)
    assert rotated.open(b"k", old.close(b"k", b"body")) == b"body"
    assert new.open(b"k", rotated.close(b"k", b"body")) == b"body"
    with pytest.raises(Unreadable, match="signed by nobody"):
        new.open(b"k", old.close(b"k", b"body"))


def test_what_is_encrypted_shows_neither_results_nor_arguments(yard):
    """Of tags and function names it says nothing."""
    process = yard.process(secrets=[NEW], encrypt=True)
    yard.call(process[1], "a secret kind")
    key = yard.key(process, "a secret kind")
    assert b"secret kind" not in key
    assert b"one" not in yard.raw(key)
    assert Guard([NEW], encrypts=True).hidden("x") != Guard([OLD], encrypts=True).hidden("x")
    signed = yard.process(secrets=[NEW])
    assert b"secret kind" in yard.key(signed, "a secret kind")


def test_processes_with_and_without_secrets_do_not_disturb_each_other(yard):
    """While a deployment rolls, both are warm."""
    processes = [yard.process(), yard.process(secrets=[NEW]), yard.process(secrets=[NEW], encrypt=True)]
    for _ in range(2):
        for _, names in processes:
            yard.call(names)
    assert [cache.stats().hits for cache, _ in processes] == [1, 1, 1]


@pytest.mark.parametrize("secrets", [[], [b"short"], b"one secret of many bytes", ["text that is long enough"]])
def test_a_secret_that_is_none_is_refused(secrets):
    """At start-up."""
    with pytest.raises(CacheDeclarationError, match="secrets="):
        Cache("yard").connect(secrets=secrets)


def test_encrypting_needs_a_secret_and_a_library(monkeypatch):
    """And says which."""
    with pytest.raises(CacheDeclarationError, match="give secrets="):
        Cache("yard").connect(encrypt=True)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingExtra, match=r"perfkit\[crypto\]"):
        Cache("yard").connect(secrets=[NEW], encrypt=True)


def test_a_cache_that_could_not_be_guarded_is_not_connected():
    """Half of it done would be unsigned entries."""
    cache = Cache("yard")
    with pytest.raises(CacheDeclarationError):
        cache.connect(secrets=[b"short"])
    cache.connect(secrets=[NEW])
    cache.close()


# ---- bytes of any kind


def question(guard: Guard | None = None) -> Question:
    return Question(b"key", Named((b"bins",), (b"cell",)), Keeping(60_000, 1_000_000), guard=guard)


@pytest.mark.parametrize("guard", [None, Guard([NEW], encrypts=False), Guard([NEW], encrypts=True)])
def test_bytes_of_any_kind_are_a_hit_of_ours_or_a_miss(guard):
    """`python -m tests.cache.fuzz` does the same a million times."""
    from tests.cache.fuzz import Fuzzer

    fuzzer = Fuzzer(guard, seed=7)
    tracemalloc.start()
    for _ in range(3_000):
        fuzzer.once()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    assert fuzzer.misses > 1_000


def test_an_entry_of_a_size_that_none_of_ours_has_is_not_even_looked_at():
    """Whatever it claims to be."""
    version = b"c" * 20
    raw = seal(Entry(bytes(5_000_000), (b"bins",), (version,)))
    found = judge(question(), Seen([raw, version], [b"e", b"e"]), Codec())
    assert isinstance(found, Capture)
    assert found.odd is Reason.UNREADABLE


# ---- tenants


@example(["a", "a:x", "a:x:x"])
@given(st.lists(st.none() | st.text() | st.integers() | st.uuids(), unique_by=lambda each: (type(each), each)))
def test_tenants_that_differ_have_keys_that_differ(tenants):
    """Whatever characters they have; and none is the beginning of another's key."""
    texts = [tenant_text(tenant) + ":x" for tenant in tenants]
    assert len(set(texts)) == len(tenants)
    for one in texts:
        assert not any(other is not one and other.startswith(one) for other in texts)


current: ContextVar[Any] = ContextVar("current", default=None)


@contextmanager
def of(tenant: Any) -> Iterator[None]:
    token = current.set(tenant)
    try:
        yield
    finally:
        current.reset(token)


@pytest.mark.parametrize("l1", ["off", "auto"])
@settings(max_examples=30, deadline=None)
@given(calls=st.lists(st.tuples(st.sampled_from([None, "7", 7, UUID(int=7), "!int=7", "a:b"]), st.sampled_from("ab"))))
def test_no_tenant_is_answered_by_what_another_has_loaded(l1, calls):
    """In the store and in the process; what a call loads says whose it was."""
    yard = Yard(":memory:")
    cache = Cache("yard", Policy(tenant=current.get, l1=l1))

    @cache.query()
    def whose(session: Session, word: str) -> str:
        session.scalar(select(func.count()).select_from(Bin))
        tenant = current.get()
        return f"{type(tenant).__name__} {tenant} {word}"

    cache.connect(yard.store)
    cache.watch(yard.engine, Base.metadata)
    for tenant, word in calls:
        with of(tenant):
            assert yard.call(whose, word) == f"{type(tenant).__name__} {tenant} {word}"
    assert cache.stats().fills == len({(type(tenant), tenant, word) for tenant, word in calls})
    cache.close()
    yard.close()


def test_a_load_that_changes_the_tenant_keeps_its_result_for_the_caller(tmp_path):
    """Whose call it is, is asked before it."""
    yard = Yard(tmp_path / "yard.db")
    cache = Cache("yard", Policy(tenant=current.get))

    @cache.query()
    def names(session: Session) -> tuple[str, ...]:
        found = tuple(session.scalars(select(Bin.name)))
        current.set("other")
        return (*found, "for me")

    cache.connect(yard.store)
    cache.watch(yard.engine, Base.metadata)
    with of("me"):
        yard.call(names)
    fills = cache.stats().fills
    with of("other"):
        yard.call(names)
    assert cache.stats().fills == fills + 1
    cache.close()
    yard.close()


def test_a_tenant_that_has_no_text_of_its_own_is_refused(yard):
    """`1` and `True` and `1.0` would be told apart by luck."""
    cache, names = yard.process(policy=Policy(tenant=lambda: 1.5))
    with pytest.raises(UnkeyableArgument, match=r"tenant 1\.5"):
        yard.call(names)
    with pytest.raises(CacheDeclarationError, match="tenant='north'"):
        Policy(tenant="north")
    del cache


def test_a_tenant_that_equals_another_is_another(yard):
    """`True` is no tenant, although 1 is one, and is held."""
    tenant: list[Any] = [1]
    cache, names = yard.process(policy=Policy(tenant=lambda: tenant[0]))
    yard.call(names)
    yard.call(names)
    assert cache.stats().hits == 1
    tenant[0] = True
    with pytest.raises(UnkeyableArgument):
        yard.call(names)


def test_hits_are_hits_of_ours():
    """The fuzzer finds what is good to be good."""
    from tests.cache.fuzz import Fuzzer

    fuzzer = Fuzzer(None, seed=1)
    assert isinstance(fuzzer.judged(fuzzer.good[0]), Hit)
