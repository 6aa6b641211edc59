"""`perfkit cache stats|ls|show|invalidate` on what a service has left in real servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache.inventory import bump, entries_in, functions_in, show
from perfkit.errors import CacheDeclarationError, StoreDown, UnknownTag
from tests.cache.conftest import Base, Bin


@dataclass
class Volume:
    litres: int


class Service:
    """One process with a few entries in a server."""

    def __init__(self, path: Any, url: str, **guard: Any) -> None:
        self.url = url
        self.engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(self.engine)
        self.cache = Cache("shop", Policy(ttl=3600))

        @self.cache.query()
        def count(session: Session, kind: str) -> int | None:
            return session.scalar(select(func.count()).where(Bin.kind == kind))

        @self.cache.query()
        def names(session: Session) -> list[str]:
            return list(session.scalars(select(Bin.name)))

        self.count, self.names = count, names
        self.cache.connect(url, timeout_s=10, **guard)
        self.cache.watch(self.engine, Base.metadata)
        self.fill()

    def fill(self) -> None:
        with Session(self.engine) as session:
            for kind in ("glass", "paper", "we[i]rd"):
                self.count(session, kind)
            self.names(session)

    def key(self, function: Any, *args: Any) -> str:
        with Session(self.engine) as session:
            return self.cache.key_of(function, session, *args)

    def write(self) -> None:
        with Session(self.engine) as session:
            session.add(Bin(name="new"))
            session.commit()

    def close(self) -> None:
        self.cache.close()
        self.engine.dispose()


@pytest.fixture
def service(redis_url, tmp_path) -> Iterator[Service]:
    service = Service(tmp_path / "shop.db", redis_url)
    yield service
    service.close()


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perfkit", "cache", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
    )


def test_every_entry_is_found_and_nothing_else(service):
    """On all masters; cells and claims are no entries, and neither are those of another cache."""
    other = Cache("shop2", Policy(ttl=60))
    found = list(entries_in(service.url, "shop"))
    assert sorted(each.key for each in found) == sorted(
        [service.key(service.names), *(service.key(service.count, kind) for kind in ("glass", "paper", "we[i]rd"))]
    )
    assert all(0 < each.ends_in_s <= 3600 and each.bytes > 20 and each.kind == "plain" for each in found)
    functions = {each.function.rpartition(".")[2]: each for each in functions_in(service.url, "shop")}
    assert {name: each.entries for name, each in functions.items()} == {"count": 3, "names": 1}
    assert functions["count"].bytes == sum(each.bytes for each in found if each.function.endswith("count"))
    assert list(entries_in(service.url, "sho?")) == []
    other.close()


def test_an_entry_is_shown_with_what_it_depends_on(service):
    """And after a commit it is out of date."""
    key = service.key(service.count, "glass")
    shown = show(service.url, key)
    assert shown is not None
    assert shown.is_current
    assert shown.value == "0"
    assert {tag.tag for tag in shown.tags} >= {"bins"}
    service.write()
    after = show(service.url, key)
    assert after is not None
    assert not after.is_current
    assert {tag.state for tag in after.tags} == {"current", "changed"}
    assert [tag.version for tag in after.tags] == [tag.now for tag in shown.tags], "what the entry was loaded under"
    assert {tag.tag for tag in after.tags if tag.version != tag.now} == {"bins"}
    with Session(service.engine) as session:
        explained = service.cache.explain(service.count, session, "glass").tags
    assert {(tag.tag, tag.version, tag.now) for tag in explained} == {
        (tag.tag, tag.version, tag.now) for tag in after.tags
    }
    assert show(service.url, key + "x") is None


def test_on_a_cluster_it_is_the_same(cluster_url, tmp_path):
    """Keys on every master; cells in slots of their own."""
    service = Service(tmp_path / "shop.db", cluster_url)
    assert {each.function.rpartition(".")[2] for each in functions_in(cluster_url, "shop")} == {"count", "names"}
    assert len(list(entries_in(cluster_url, "shop"))) == 4
    key = service.key(service.names)
    shown = show(cluster_url, key)
    bump(cluster_url, "shop", ["bins"])
    after = show(cluster_url, key)
    assert shown is not None
    assert after is not None
    assert (shown.is_current, after.is_current) == (True, False)
    service.close()


@pytest.mark.parametrize("encrypt", [False, True])
def test_what_is_guarded_is_shown_as_far_as_it_can_be(redis_url, tmp_path, encrypt):
    """A signature is not checked: the command has no secret."""
    service = Service(tmp_path / "shop.db", redis_url, secrets=[b"a secret of more than 16"], encrypt=encrypt)
    shown = show(service.url, service.key(service.count, "glass"))
    assert shown is not None
    assert shown.kind == ("encrypted" if encrypt else "signed")
    assert shown.value.startswith("encrypted: only") if encrypt else shown.value == "0"
    kinds = {each.kind for each in entries_in(redis_url, "shop") if service.key(service.count, "glass") == each.key}
    assert kinds == {shown.kind}
    service.close()


def test_entities_are_said_to_be_entities(service):
    """They cannot be shown without the code of their classes."""

    @service.cache.query()
    def bins(session: Session) -> list[Bin]:
        return list(session.scalars(select(Bin)))

    service.write()
    with Session(service.engine) as session:
        bins(session)
    assert show(service.url, service.key(bins)).value.endswith(
        "bytes of ORM entities, which only a process that has their classes can read"
    )


def test_a_bump_from_outside_is_seen_by_the_process(service):
    """At its next call."""
    with Session(service.engine) as session:
        service.names(session)
    fills = service.cache.stats().fills
    assert bump(service.url, "shop", ["bins"]) == ["bins", "bins#*", "bins?*"]
    with Session(service.engine) as session:
        service.names(session)
    assert service.cache.stats().fills == fills + 1
    with pytest.raises(UnknownTag):
        bump(service.url, "shop", ["bins#{id}"])


def test_what_decorators_are_worth_is_told_by_the_processes(redis_url, tmp_path, monkeypatch):
    """Hits are counted where they happen; each process leaves its totals in the store, and they are added up."""
    monkeypatch.setattr("perfkit.cache.reports.EVERY_S", 0.0)
    one, two = (Service(tmp_path / f"{name}.db", redis_url) for name in ("one", "two"))
    for service in (one, two):
        service.fill()

        @service.cache.query(version=1)
        def never_again(session: Session, number: int) -> int:
            return session.scalar(select(func.count()).select_from(Bin)) or number

        with Session(service.engine) as session:
            for number in range(100):
                never_again(session, number)
        service.fill()  # which tells of the calls before it

    found = {each.function.rpartition(".")[2]: each for each in functions_in(redis_url, "shop")}
    stats = json.loads(run("stats", "--cache", redis_url, "--namespace", "shop", "--json").stdout)
    shown = run("stats", "--cache", redis_url, "--namespace", "shop").stdout

    count, never = found["count"].stats, found["never_again"].stats
    assert (count.fills, count.hits) == (6, 12)
    assert (never.fills, never.hits, never.calls) == (200, 0, 200)
    assert count.load_ms > 0
    assert "remove the decorator" in never.advice
    assert {each["function"]: each["calls"] for each in stats}[never.name] == 200
    assert {each["function"]: each["advice"] for each in stats}[never.name] == never.advice
    assert f"{never.name}: remove the decorator" in shown
    one.close()
    two.close()


def test_async_functions_are_reported_too(redis_url, tmp_path, monkeypatch):
    """By a process that has no other."""
    monkeypatch.setattr("perfkit.cache.reports.EVERY_S", 0.0)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    cache = Cache("shop-async", Policy(ttl=3600))

    @cache.query()
    async def one(session: AsyncSession) -> int:
        return (await session.execute(select(func.count()).select_from(Bin))).scalar_one()

    async def main() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        cache.connect(redis_url, timeout_s=10)
        cache.watch(engine, Base.metadata)
        async with AsyncSession(engine) as session:
            for _ in range(3):
                await one(session)
        await cache.aclose()
        await engine.dispose()

    asyncio.run(main())

    (found,) = functions_in(redis_url, "shop-async")
    assert (found.entries, found.stats.fills, found.stats.hits) == (1, 1, 1)  # the third call tells of those before it


def test_a_report_that_is_none_is_passed_over(service, monkeypatch):
    """Who can write to Redis can write there what they like."""
    whole = {each.function for each in functions_in(service.url, "shop")}
    name = {"name": "x", "load_ms": None, "saved_s": 0.0}
    half = json.dumps([name]).encode()
    strange = [b"", b"[", b"{}", b"[1]", b"[[]]", b"\xff", b"[" * 100_000, b'[{"name": 1}]', half]
    with redis.Redis.from_url(service.url) as client:
        for number, each in enumerate(strange):
            client.set(f"shop:w:{number}", each)
        client.lpush("shop:w:list", 1)

    assert {each.function for each in functions_in(service.url, "shop")} == whole


def test_what_cannot_be_looked_at_says_so(redis_url):
    """No server, no URL, no key."""
    with pytest.raises(StoreDown):
        list(entries_in("redis://127.0.0.1:1", "shop"))
    with pytest.raises(CacheDeclarationError, match="cannot connect"):
        functions_in("http://x", "shop")
    with pytest.raises(CacheDeclarationError, match="is not the key of an entry"):
        show(redis_url, "something")


def test_who_may_not_look_is_told_what_to_grant(redis_url):
    """A user with the rights of a service has not those of the command."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "service", "on", ">pw", "~shop:*", "+ping", "+info", "+mget")
        with pytest.raises(StoreDown, match=r"'scan' command: grant \+scan \+strlen \+pttl, beside"):
            functions_in(redis_url.replace("redis://", "redis://service:pw@"), "shop")
        client.execute_command("ACL", "DELUSER", "service")


def test_the_commands(redis_url, tmp_path):
    """In a terminal and for machines; what is wrong is a line and an exit status."""
    service = Service(tmp_path / "shop.db", redis_url)
    where = ("--cache", redis_url)
    stats = run("stats", *where, "--namespace", "shop", "--json")
    assert {each["entries"] for each in json.loads(stats.stdout)} >= {1, 3}
    stats = run("stats", *where, "--namespace", "shop").stdout
    assert "entries of 2 functions" in stats
    assert "no process has reported yet" in stats
    assert "perfkit cache invalidate [OPTIONS] {TAG}..." in run("invalidate", "--help").stdout
    lines = run("ls", *where, "--namespace", "shop", "--function", "count", "--json").stdout.splitlines()
    keys = [json.loads(line)["key"] for line in lines]
    assert service.key(service.count, "we[i]rd") in keys
    listed = run("ls", *where, "--namespace", "shop", "--limit", "2")
    assert len(listed.stdout.splitlines()) == 2
    assert "and more" in listed.stderr
    assert service.key(service.count, "we[i]rd") in run("ls", *where, "--namespace", "shop").stdout
    shown = run("show", *where, service.key(service.names))
    assert "current, loaded" in shown.stdout
    assert json.loads(run("show", *where, service.key(service.names), "--json").stdout)["is_current"] is True
    done = run("invalidate", *where, "--namespace", "shop", "bins")
    assert done.stdout == "out of date: all that depends on bins, bins#*, bins?*\n"
    machines = run("invalidate", *where, "--namespace", "shop", "*", "--json")
    assert json.loads(machines.stdout) == {"out_of_date": ["*"]}
    assert "out of date, loaded" in run("show", *where, service.key(service.names)).stdout
    with Session(service.engine) as session:
        service.count(session, "\x1b]0;hostile\x07")
    hostile = run("ls", *where, "--namespace", "shop").stdout
    assert "hostile" in hostile
    assert "\x1b" not in hostile
    for words, status, said in (
        (("show", *where, "shop:v:x:1@:()"), 1, "there is no such entry"),
        (("show", *where, "x"), 2, "is not the key of an entry"),
        (("stats", "--cache", "redis://127.0.0.1:1", "--namespace", "shop"), 2, "SCAN got no answer"),
    ):
        wrong = run(*words)
        assert wrong.returncode == status
        assert said in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1, "nothing is logged beside it"
    assert "no entries in 'none'" in run("ls", *where, "--namespace", "none").stdout
    without = run("ls", *where, "--namespace", "shop", "--function", "nobody").stdout
    assert without == "no entries of functions with 'nobody' in their names in 'shop'\n"
    service.close()


def test_what_somebody_else_keeps_under_such_a_name_is_no_entry(service):
    """A list there would have ended the whole listing."""
    found = {each.key for each in entries_in(service.url, "shop")}
    with redis.Redis.from_url(service.url) as client:
        client.lpush("shop:v:somebody.elses@:list", 1)

    assert {each.key for each in entries_in(service.url, "shop")} == found


def test_objects_of_classes_are_said_to_be(service):
    """Without the bytes of their names."""

    @service.cache.query()
    def volume(session: Session) -> Volume:
        return Volume(session.scalar(select(func.count()).select_from(Bin)) or 0)

    with Session(service.engine) as session:
        volume(session)
    shown = show(service.url, service.key(volume))
    assert shown is not None
    assert shown.value.endswith("bytes with objects of classes, which only a process that has their function can read")


def test_the_version_is_told():
    """For reports of what went wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "perfkit", "--version"], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == f"perfkit {version('perfkit')}\n"


def test_verify_calls_functions_again(service, tmp_path):
    """The command, with a module that sets the service up; and one that is only here is named."""

    @service.cache.query()
    def gone(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(Bin)) or 0

    (tmp_path / "shop_ops.py").write_text(
        "from sqlalchemy.orm import Session\n"
        "from tests.cli.test_inventory import Service\n"
        f"service = Service({str(tmp_path / 'shop.db')!r}, {service.url!r})\n"
        "def cache_and_sessions():\n"
        "    return service.cache, lambda: Session(service.engine)\n"
        "def nothing():\n"
        "    pass\n"
        "async def later():\n"
        "    return cache_and_sessions()\n"
        "def broken():\n"
        "    raise LookupError('no settings')\n"
        "def unwatched():\n"
        "    service.cache.unwatch(service.engine)\n"
        "    return cache_and_sessions()\n"
    )
    command = [
        sys.executable,
        "-m",
        "perfkit",
        "cache",
        "verify",
        "shop_ops:cache_and_sessions",
        "--cache",
        service.url,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}

    def verify(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, env=environment, check=False)

    found = verify("--function", "count", "--json")
    assert (found.returncode, json.loads(found.stdout)["violations"]) == (0, []), found.stderr
    assert json.loads(found.stdout)["right"] >= 3
    with Session(service.engine) as session:
        gone(session)
    shown = verify().stdout
    assert "right, 0 wrong" in shown
    assert f"cannot be called  {gone.__module__}.{gone.__qualname__}: no function of this process has" in shown
    assert verify("--function", "nobody").stdout == "no entries of functions with 'nobody' in their names in 'shop'\n"
    for given, said in (
        ("nowhere:x", "gives no (cache, sessions)"),
        ("shop_ops", "names no function"),
        ("shop_ops:nothing", "gives None, and no"),
        ("shop_ops:later", "is async: name a plain function"),
        ("shop_ops:broken", "gives no (cache, sessions): LookupError: no settings, at"),
        ("shop_ops:unwatched", "cache 'shop' is not connected, or watches no engine"),
    ):
        wrong = subprocess.run(
            [*command[:5], given, *command[6:]], capture_output=True, text=True, env=environment, check=False
        )
        assert wrong.returncode == 2
        assert said in " ".join(wrong.stderr.replace("│", " ").split())
