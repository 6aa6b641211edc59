"""Doctor: what a deployment keeps of the strict promise, found out by asking its servers.

It answers with findings and prints nothing; `perfkit cache doctor` does. Everything it writes lies under names of its
own, in a namespace of its own unless one is given, and is taken away again. A server that does not answer is a finding,
too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from perfkit.cache.cells import new_writer
from perfkit.cache.redis import RedisStore
from perfkit.cache.tags import cell_key
from perfkit.errors import StoreDown
from perfkit.sqla.idle import LIMITS
from perfkit.waiting import run_now
from perfkit.wire.addresses import check_url, target_of
from perfkit.wire.answers import Command
from perfkit.wire.wires import Wire, open_wires

PINGS = 9
OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
RIGHTS = (
    "+ping +info +time +mget +get +set +unlink +eval +evalsha, +cluster|slots in a cluster, "
    "and +select for another database than 0"
)
TIMEOUT_S = 2.0


class Level(IntEnum):
    """How much it matters."""

    OK = 0
    NOTE = 1
    WARNING = 2
    PROBLEM = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do, where there is something to do."""

    subject: str
    level: Level
    text: str
    advice: str = ""


# ---- the store


def examine_store(url: str, *, mark_hold_s: float = 10.0, namespace: str | None = None) -> list[Finding]:
    """What can be said of the Redis or Valkey at `url`, each master of a cluster by itself.

    `namespace` is the cache's, for a user who has rights to its keys alone.

    Raises:
        CacheDeclarationError: `url` is none.
    """
    check_url(url)
    wires = open_wires(url, timeout_s=TIMEOUT_S)
    try:
        masters = run_now(wires.masters())
    except StoreDown as down:
        return [Finding(target_of(url).name, Level.PROBLEM, str(down), "Start it, or correct the address.")]
    found = [each for name, wire in masters.items() for each in _of_server(name, wire, mark_hold_s)]
    if any(finding.level is Level.PROBLEM for finding in found):
        return found
    found += _rights(target_of(url).name, wires.blocking, namespace)
    wires.close()
    return found


def _of_server(name: str, wire: Wire, mark_hold_s: float) -> Iterator[Finding]:
    try:
        waits_ms = [_timed_ms(lambda: _ask(wire, "PING")) for _ in range(PINGS)]
        info = _info(_ask(wire, "INFO"))
        began_s = time.time()
        seconds, micros = _ask(wire, "TIME")
        off_s = abs(int(seconds) + int(micros) / 1e6 - (began_s + time.time()) / 2)
    except StoreDown as down:
        yield Finding(name, Level.PROBLEM, str(down), _advice_for(down))
        return
    yield Finding(name, Level.OK, f"answers in {statistics.median(waits_ms):.2f} ms")
    yield _version(name, info)
    yield _eviction(name, info)
    yield _clock(name, off_s, mark_hold_s)
    replicas = int(info.get("connected_slaves", "0"))
    if replicas:
        yield Finding(
            name,
            Level.NOTE,
            f"{replicas} replica(s): a mark that was set just before a failover may not have reached them, and a "
            f"commit in these milliseconds is unprotected",
        )


def _advice_for(down: StoreDown, namespace: str | None = None) -> str:
    told = str(down)
    if "permissions to access" in told:  # keys, not commands
        if namespace is None:
            return "Give --namespace: this user has no rights to keys outside of it."
        return f"Grant ~{namespace}:*"
    if any(each in told for each in ("permissions", "executing the script", "ACL failure")):  # by age of the server
        return f"Grant {RIGHTS}."
    if "replica" in told:
        return "Give the address of the master; cells are never read from replicas."
    return "Start it, correct the address or the password, or look at the network between."


def _version(name: str, info: dict[str, str]) -> Finding:
    kind = "valkey" if "valkey_version" in info else "redis"
    version = info.get(f"{kind}_version", "")
    oldest = OLDEST[kind]
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts >= oldest:
        return Finding(name, Level.OK, f"{kind} {version}")
    needed = ".".join(map(str, oldest))
    return Finding(name, Level.WARNING, f"{kind} {version or 'of no version'}", f"Tested from {kind} {needed} on.")


def _eviction(name: str, info: dict[str, str]) -> Finding:
    policy, limit = info.get("maxmemory_policy", "unknown"), int(info.get("maxmemory", "0"))
    if limit == 0:
        return Finding(name, Level.OK, f"maxmemory is not set, so nothing is evicted ({policy})")
    text_of_it = f"maxmemory {limit / 2**20:.0f} MB, {policy}"
    if policy.startswith("allkeys-"):
        return Finding(
            name,
            Level.WARNING,
            f"{text_of_it}: when it is full it may evict the mark of a commit that is under way",
            "Use volatile-lru or volatile-ttl: entries have an expiry, marks have none.",
        )
    if policy == "noeviction":
        return Finding(
            name,
            Level.NOTE,
            f"{text_of_it}: when it is full, marks are refused, and commits go on unmarked (or are vetoed)",
            "Use volatile-lru or volatile-ttl, so that entries make room.",
        )
    return Finding(name, Level.OK, text_of_it)


def _clock(name: str, off_s: float, mark_hold_s: float) -> Finding:
    if off_s < mark_hold_s / 10:
        return Finding(name, Level.OK, f"its clock and this machine's differ by {off_s * 1000:.0f} ms")
    return Finding(
        name,
        Level.WARNING,
        f"its clock and this machine's differ by {off_s:.1f} s",
        "Run NTP on both: after a failover to a server whose clock is ahead, marks end too early by that much.",
    )


def _rights(name: str, wire: Wire, namespace: str | None) -> Iterator[Finding]:
    """Every command that the cache uses, once, on keys that nobody else has."""
    own = f"perfkit-doctor-{uuid4().hex[:8]}"
    store = RedisStore(wire, cell_ttl_ms=10_000)
    cells = [cell_key(namespace or own, f"{own}:{each}") for each in "ab"]
    key = f"{namespace or own}:v:{own}".encode()
    writer = new_writer()
    steps: dict[str, Callable[[], Any]] = {
        "MGET": lambda: store.read([key, *cells]),
        "EVALSHA and EVAL (ensure)": lambda: store.ensure(cells),
        "SET": lambda: store.put(key, b"x", 10_000),
        "EVALSHA and EVAL (mark)": lambda: store.mark(cells, writer, 1000),
        "EVALSHA and EVAL (bump)": lambda: store.bump(cells, writer),
        "UNLINK": lambda: store.drop([key, *cells]),
    }
    refused = False
    for command, step in steps.items():
        try:
            run_now(step())
        except StoreDown as down:
            refused = True
            yield Finding(name, Level.PROBLEM, f"{command}: {down}", _advice_for(down, namespace))
    if not refused:
        yield Finding(name, Level.OK, "every command that the cache uses is allowed, scripts included")


def _ask(wire: Wire, *words: str) -> Any:
    (answer,) = run_now(wire.run(Command(b"", words)))
    return answer.value


def _info(answer: bytes) -> dict[str, str]:
    lines = answer.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


# ---- the database


def examine_database(url: str, *, mark_hold_s: float = 10.0, idle_timeout_s: float | None = None) -> list[Finding]:
    """What can be said of the database at an SQLAlchemy `url`; with an async driver give the sync one's.

    `mark_hold_s` and `idle_timeout_s` are those of the policy.
    """
    advice = "Give SQLAlchemy's URL with an installed sync driver, such as postgresql+psycopg://user@host/name."
    name = "the database"
    try:
        name = make_url(url).render_as_string(hide_password=True)
        engine = create_engine(url, connect_args={})
    except (SQLAlchemyError, ImportError) as wrong:
        return [Finding(name, Level.PROBLEM, str(wrong), advice)]
    if engine.dialect.is_async:
        return [Finding(name, Level.PROBLEM, f"{engine.dialect.driver} is an async driver", advice)]
    try:
        with engine.connect() as connection:
            return list(_of_database(name, connection, mark_hold_s, idle_timeout_s))
    except SQLAlchemyError as down:
        reason = str(down.__cause__ or down).strip().splitlines()
        return [Finding(name, Level.PROBLEM, reason[0] if reason else repr(down), "Start it, or correct the address.")]
    finally:
        engine.dispose()


def _of_database(
    name: str, connection: Connection, mark_hold_s: float, idle_timeout_s: float | None
) -> Iterator[Finding]:
    dialect = connection.dialect
    waits_ms = [_timed_ms(lambda: connection.scalar(text("SELECT 1"))) for _ in range(PINGS)]
    version = ".".join(map(str, dialect.server_version_info or ()))
    yield Finding(name, Level.OK, f"{dialect.name} {version}, answers in {statistics.median(waits_ms):.2f} ms")
    yield _isolation(name, connection)
    kind = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    if kind in LIMITS:
        yield _idle(name, connection, kind, mark_hold_s, idle_timeout_s)
    if kind == "postgresql":
        yield from _of_postgresql(name, connection)


def _isolation(name: str, connection: Connection) -> Finding:
    level = (connection.default_isolation_level or "unknown").upper()
    if connection.dialect.name == "sqlite" or level in ("READ COMMITTED", "AUTOCOMMIT"):
        return Finding(name, Level.OK, f"isolation level {level}")
    if level == "READ UNCOMMITTED":
        return Finding(
            name,
            Level.PROBLEM,
            f"isolation level {level}: a load may see what is rolled back later, and it would be kept",
            "Use READ COMMITTED.",
        )
    return Finding(
        name,
        Level.NOTE,
        f"isolation level {level}: a call inside an open transaction is answered by the database, and not kept",
        'Use create_engine(…, isolation_level="READ COMMITTED") where the transactions allow it.',
    )


def _idle(name: str, connection: Connection, kind: str, mark_hold_s: float, idle_timeout_s: float | None) -> Finding:
    limit = LIMITS[kind]
    row = connection.execute(text(limit.ask)).first()
    found_s = (int(row[0]) if row else 0) * limit.unit_ms / 1000
    half_s = mark_hold_s / 2
    if 0 < found_s <= half_s:
        return Finding(name, Level.OK, f"{limit.name} is {found_s:g} s")
    if idle_timeout_s is not None and idle_timeout_s <= half_s:
        return Finding(name, Level.OK, f"Policy(idle_timeout={idle_timeout_s:g}) sets {limit.name} on each connection")
    role = connection.engine.url.username or "the_role"
    advice = f"Policy(idle_timeout={half_s:g}) sets it on each connection, and --idle-timeout={half_s:g} says so here"
    if kind == "postgresql":
        advice += f"; or ALTER ROLE {role} SET {limit.name} = '{half_s:g}s'"
    return Finding(
        name,
        Level.WARNING,
        f"{limit.name} is {f'{found_s:g} s' if found_s else 'off'}: a process that is stopped between its mark and its "
        f"COMMIT for longer than {mark_hold_s:g} s would commit unmarked when it goes on",
        f"{advice}.",
    )


def _of_postgresql(name: str, connection: Connection) -> Iterator[Finding]:
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        yield Finding(
            name,
            Level.PROBLEM,
            "it is a standby, which may be behind: a load from it would be kept as current",
            "Watch the engine of the primary, and pass its sessions to cached functions.",
        )
    standbys, commits = _setting(connection, "synchronous_standby_names"), _setting(connection, "synchronous_commit")
    if standbys and commits not in ("off", "local"):
        yield Finding(
            name,
            Level.NOTE,
            f"COMMIT waits for {standbys}: while a standby hangs, a commit may outlive its mark",
            "Let mark_hold exceed the longest such wait.",
        )
    yield _pooler(name, connection)
    if _setting(connection, "max_prepared_transactions") == "0":
        yield Finding(
            name, Level.NOTE, "max_prepared_transactions is 0: no two-phase commits, which is fine without them"
        )
    connection.rollback()


def _pooler(name: str, connection: Connection) -> Finding:
    """Whether somebody stands between: by who serves us before and after a commit, and by the port that it says."""
    before = connection.scalar(text("SELECT pg_backend_pid()"))
    connection.commit()
    after = connection.scalar(text("SELECT pg_backend_pid()"))
    its, ours = connection.scalar(text("SELECT inet_server_port()")), connection.engine.url.port or 5432
    if before != after:
        return Finding(
            name,
            Level.NOTE,
            "a pooler stands between and changes servers between transactions (the backend changed)",
            "Good for the cache; set idle_in_transaction_session_timeout by ALTER ROLE, not by Policy(idle_timeout=…).",
        )
    if its is not None and its != ours:
        return Finding(
            name,
            Level.NOTE,
            f"the server says that it listens on port {its}, and we asked port {ours}: most likely a pooler or a "
            f"tunnel stands between",
            "If it pools transactions, set idle_in_transaction_session_timeout by ALTER ROLE.",
        )
    return Finding(name, Level.OK, "no pooler was noticed")


def _setting(connection: Connection, name: str) -> str:
    return str(connection.scalar(text("SELECT current_setting(:name)"), {"name": name}) or "")


def _timed_ms(once: Callable[[], object]) -> float:
    began = time.perf_counter()
    once()
    return (time.perf_counter() - began) * 1000
