"""Cache: declared beside the models, connected at start-up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from sqlalchemy import Connection, Dialect, Engine, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from perfkit.cache.announce import Announcer
from perfkit.cache.call import Call, ask
from perfkit.cache.callers import line_of_caller
from perfkit.cache.declared import Declared, carriers_in
from perfkit.cache.decorator import declared_by, decorated, refresh_later, refresh_now
from perfkit.cache.events import CacheEvent
from perfkit.cache.explain import Explanation, Peeked, explained, peeked
from perfkit.cache.found import FoundRows
from perfkit.cache.guard import Guard
from perfkit.cache.keys import digest
from perfkit.cache.lookup import Lookup
from perfkit.cache.memory import MemoryStore
from perfkit.cache.near import ATTENTION
from perfkit.cache.older import OlderAnswer, noting_older
from perfkit.cache.policy import Own, Policy, own_policy
from perfkit.cache.read import Hit
from perfkit.cache.reasons import Reason
from perfkit.cache.recheck import Recheck, Rechecked
from perfkit.cache.relations import Known, declare_conditions, folded
from perfkit.cache.runtime import Runtime
from perfkit.cache.served import RunStatement, Statements, serve
from perfkit.cache.stats import CacheStats, stats_of
from perfkit.cache.store import Store
from perfkit.cache.tags import Only, TagSource, tables_of, tags_by_hand
from perfkit.cache.warm import Warmed, WarmUp
from perfkit.cache.worth import FunctionStats
from perfkit.cache.write import Writer
from perfkit.clock import FrozenClock
from perfkit.errors import CacheDeclarationError, StoreDown, UnknownTag
from perfkit.forks import lock_of
from perfkit.sqla.catalog import Catalog
from perfkit.sqla.commits import around_commits
from perfkit.sqla.idle import bound_idle
from perfkit.sqla.sessions import (
    announce_by_hand,
    carrier_in,
    database_name,
    engine_of,
    watch_sessions,
)
from perfkit.sqla.watching import watch_engines
from perfkit.waiting import run_now
from perfkit.wire.breaker import TIMEOUT_S

if TYPE_CHECKING:
    from perfkit.wire.wires import Wires

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E")
K = TypeVar("K")

_SUSPENDING, _BLOCKING = (AsyncSession, async_scoped_session), (Session, scoped_session)

AnySession = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any] | Connection | AsyncConnection

CELL_TTL_MS = 3_600_000  # at least; a cell that outlives its entries costs bytes, one that dies first costs misses


def _not_taken(tags: Sequence[TagSource]) -> StoreDown:
    named = [tag if isinstance(tag, str) else ", ".join(tables_of(tag)) for tag in tags]
    return StoreDown(
        f"the store did not take the bump of {', '.join(named)}, and will be told again; perfkit.wire has logged why."
    )


async def _nothing() -> None:
    return None


async def _at_once(value: E) -> E:
    return value


async def _by_identity(step: Awaitable[dict[tuple[Any, ...], Any]], keys: Mapping[K, tuple[Any, ...]]) -> dict[K, Any]:
    found = await step
    return {identity: found[key] for identity, key in keys.items() if key in found}


class Cache:
    """Remembers what functions read from the database, until a commit changes it.

    Making one does no I/O; `connect` and `watch` at start-up are where that begins. Until then, and whenever
    anything is in doubt, a cached function runs as if it were not cached, and `stats()` says why.

    `namespace` begins every key: services that share a server must differ in it, processes that share entries
    must not.

    >>> from perfkit import Cache, Policy
    >>> from sqlalchemy.orm import Session
    >>> cache = Cache("shop", Policy(mode="strict", ttl=900))
    >>> @cache.query(tags="orders")
    ... def open_orders(session: Session, customer_id: int) -> int: ...
    """

    def __init__(self, namespace: str, policy: Policy | None = None) -> None:
        is_name = isinstance(namespace, str) and namespace.isprintable() and not any(c in namespace for c in "{}* ")
        if not namespace or not is_name:
            raise CacheDeclarationError(f"namespace {namespace!r}: give a short name without spaces, braces or stars.")
        if not isinstance(policy, Policy | None):
            raise CacheDeclarationError(f"Cache({namespace!r}, {policy!r}): give a Policy(…), as in Policy(ttl=60).")
        self._runtime = Runtime(namespace, policy or Policy())
        self._declared: list[Declared] = []
        self._lock = lock_of(self)
        self._metadata: list[MetaData] = []
        self._reads: dict[str, Sequence[str]] = {}
        self._unwatch: dict[Dialect, list[Callable[[], None]]] = {}
        self._wires: Wires | None = None
        self._lookups: dict[tuple[type, bool], Lookup] = {}
        self._announcer = Announcer(self._runtime)

    @property
    def namespace(self) -> str:
        """What begins every key."""
        return self._runtime.namespace

    # ---- declaring

    @overload
    def query(self, function: F, /) -> F: ...
    @overload
    def query(
        self,
        *,
        tags: TagSource | FoundRows | Only | Sequence[TagSource | FoundRows] = (),
        reads: Mapping[str, str | Sequence[str]] | None = None,
        version: int | str = 0,
        when: Callable[..., bool] | None = None,
        keep_if: Callable[[Any], bool] | None = None,
        entities: bool | None = None,
        **own: Unpack[Own],
    ) -> Callable[[F], F]: ...
    def query(  # type: ignore[misc]  # mypy does not see that both accept the same of Own
        self,
        function: Any = None,
        /,
        *,
        tags: TagSource | FoundRows | Only | Sequence[TagSource | FoundRows] = (),
        reads: Mapping[str, str | Sequence[str]] | None = None,
        version: int | str = 0,
        when: Callable[..., bool] | None = None,
        keep_if: Callable[[Any], bool] | None = None,
        entities: bool | None = None,
        **own: Unpack[Own],
    ) -> Any:
        """Decorate a function that reads the database; sync or async, also a method. Without options, without brackets.

        What a result depends on is found out from the statements that the function runs. `tags` adds to that: mapped
        classes, tables, table names (`"bins"`), rows (`"bins#{bin_id}"`, the fields being parameters), names of your
        own (`"board:{organization_id}"`), or `rows(Bin, …)` for rows that only the result can name. `tags=only(…)` says
        that the result depends on these alone, and the statements are not looked at.
        `reads` says what views and SQL functions read, of which the statements show only the name:
        `{"full_bins": ["bins", "routes"]}`; an empty list is one that reads no table.
        `when` is called with all arguments of each call, as the function has them, defaults included: calls for which
        it is false are not cached. `keep_if` is
        called with each result that was loaded: those for which it is false are returned and not kept.
        `entities`: its results hold ORM entities, which come back as entities of the caller's session; by default, if
        the return annotation names a mapped class. What was loaded of them is loaded again, relations included, and
        all else when it is asked for.
        All else is as in `Policy`, for this function: `ttl`, `l1`, `jitter`, `early`, `negative`, `keep_errors`,
        `compress_above`, `max_bytes`, `stale`, `fail_safe`, `soft_timeout`, `hard_timeout`,
        `stage`, `verify`, `tenant`, `single_flight`.
        `version` is part of the key: change it when something that the function calls has changed its result.

        Everything that decides the result must be an argument, the session or connection too: what the function
        takes from a global, a context variable or the session's `info` is not in its key. Sessions and connections
        are passed on and are not part of the key. The return annotation says which classes a result is made of.

        Raises:
            CacheDeclarationError: the function, a tag or an option cannot work as declared.
        """
        for option, asked in (("when", when), ("keep_if", keep_if)):
            if asked is not None and not callable(asked):
                raise CacheDeclarationError(f"query({option}={asked!r}): give a function that says yes or no.")
        given = tags.sources if isinstance(tags, Only) else tags
        if not isinstance(given, str | type | Table | FoundRows | Iterable):
            raise UnknownTag(f"query(tags={given!r}): give a mapped class, a Table, a string, or a list of these.")
        sources = [given] if isinstance(given, str | type | Table | FoundRows) else list(given)
        if isinstance(tags, Only) and not sources:
            raise CacheDeclarationError("only(): name what the result depends on, or no write will ever renew it.")
        known_reads = folded(reads, "query()")
        policy = own_policy(self._runtime.policy, own)

        def decorate(function: F) -> F:
            wrapper, declared = decorated(
                function,
                lambda plain: Declared(
                    plain,
                    self._runtime,
                    tags=sources,
                    learns=not isinstance(tags, Only),
                    reads=known_reads,
                    policy=policy,
                    version=version,
                    when=when,
                    keep_if=keep_if,
                    entities=entities,
                ),
            )
            if any(declared.is_twin_of(other) for other in self._declared):
                raise CacheDeclarationError(
                    f"{declared.keys.name} is declared a second time, by code that differs only in what it closes over,"
                    f" and that has no text of its own: their keys would be the same. Give each a version= of its own."
                )
            if self._unwatch:
                declared.dependencies.check(self._metadata)
            self._declared.append(declared)
            return wrapper

        return decorate if function is None else decorate(function)

    # ---- start-up

    def connect(
        self,
        to: str | Store = "memory://",
        *,
        timeout_s: float = TIMEOUT_S,
        secrets: Sequence[bytes] | None = None,
        encrypt: bool = False,
    ) -> None:
        """Say where entries live. Does no I/O: a server that is down is found at the first call, and bypassed.

        `to` is `"memory://"` (this process, and only it), `"redis://…"`, `"rediss://…"` or `"unix://…"` for
        Redis and Valkey, `"redis+cluster://host:port,host:port"` for a cluster by any of its nodes,
        `"redis+sentinel://host:port,host:port/service"` for the master that sentinels name, or a store of your own.
        `timeout_s` is how many seconds one command may take. Once in 15 s, a call that asks a server leaves what this
        process has counted there, by one command more, for `perfkit cache stats`.

        With `secrets`, entries are signed, so that who can write to the store cannot make results: the first signs, and
        all of them are believed, so that a new one is put in front and an old one taken away a `ttl` later. `encrypt`
        has results and arguments encrypted, too; tags and names of functions stay readable.

        Raises:
            CacheDeclarationError: connected already, no such place, no time for a command, or a secret too short.
            MissingExtra: `encrypt`, without `perfkit[crypto]`.
        """
        if self._runtime.is_connected:
            raise CacheDeclarationError(f"cache {self._runtime.namespace!r} is connected already; close() it first.")
        if not isinstance(to, str | Store):
            raise CacheDeclarationError(f"connect({to!r}): give 'memory://', a URL of Redis or Valkey, or a store.")
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < inf:
            raise CacheDeclarationError(f"connect(timeout_s={timeout_s!r}): must be above 0, a number of seconds.")
        if encrypt and not secrets:
            raise CacheDeclarationError("connect(encrypt=True): give secrets=, too.")
        guard = None if secrets is None else Guard(secrets, encrypts=encrypt)
        if not isinstance(to, str):
            self._runtime.use(blocking=to, suspending=to, greenlet=to)
        elif to == "memory://":
            store = MemoryStore()
            self._runtime.use(blocking=store, suspending=store, greenlet=store)
        else:
            from perfkit.cache.redis import open_stores  # a quarter of the time that our import would take with it

            longest_ms = max([self._runtime.policy.ttl_ms, *(each.keeping.ttl_ms for each in self._declared)])
            cell_ttl_ms, hold_ms = max(CELL_TTL_MS, 2 * longest_ms), self._runtime.policy.mark_hold_ms
            opened = open_stores(to, timeout_s=timeout_s, cell_ttl_ms=cell_ttl_ms, hold_ms=hold_ms)
            self._wires, blocking, suspending, greenlet = opened
            self._runtime.use(blocking=blocking, suspending=suspending, greenlet=greenlet)
            self._runtime.reports.begin(self._functions)
        self._runtime.guard = guard

    def watch(
        self,
        engine: Engine | AsyncEngine,
        *metadata: MetaData,
        database: str | None = None,
        reads: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        """See every commit on `engine`, and check that the tables which tags name are in `metadata`.

        Each engine whose transactions change cached tables must be watched, in every process. A session or
        connection of an engine that is not watched, passed as an argument, is never answered from the cache.

        `database` names the database in keys; by default its address does, and results of one are never given to
        sessions of another. Name it where processes reach one database by different addresses.

        `reads` says what views and SQL functions read, as for `query`, for all functions.

        Columns that `__cache_tags__` of a mapped class names, or `info={"cache_tags": (…)}` of a `Table`, have tags of
        their own: a result of one organization is not renewed by a change to another's rows.

        Raises:
            CacheDeclarationError: no engine, no metadata, not connected, or watching it already.
            UnknownTag: a declared tag names no table of `metadata`, or `__cache_tags__` no column.
        """
        if not isinstance(engine, Engine | AsyncEngine):
            raise CacheDeclarationError(f"watch({engine!r}): give the Engine or AsyncEngine of your sessions.")
        for each in metadata:
            if not isinstance(each, MetaData):
                raise CacheDeclarationError(f"watch(…, {each!r}): give the MetaData of your tables, as Base.metadata.")
        sync_engine = engine_of(engine)
        if not self._runtime.is_connected:
            raise CacheDeclarationError(
                f"cache {self._runtime.namespace!r} is not connected: call connect() before watch()."
            )
        if sync_engine.dialect in self._unwatch:
            raise CacheDeclarationError(f"cache {self._runtime.namespace!r} watches {sync_engine!r} already.")
        known = list(dict.fromkeys([*self._metadata, *metadata]))
        declare_conditions(known)
        for declared in self._declared:
            declared.dependencies.check(known)
        self._metadata = known
        watch_sessions()
        serve(self, Statements(self._runtime, self._for_statements))
        self._reads |= folded(reads, "watch()")
        self._runtime.known = Known(known, self._reads)
        catalog = self._runtime.catalogs[sync_engine.dialect] = Catalog(sync_engine)
        before = partial(self._announcer.before, catalog)
        take_away = [around_commits(sync_engine, before, self._announcer.after), catalog.close, watch_engines()]
        if self._runtime.policy.mode == "strict":
            limit_ms = self._runtime.policy.idle_timeout_ms
            take_away.append(bound_idle(sync_engine, limit_ms=limit_ms, tell=self._announcer.judge_idle_limit))
        self._unwatch[sync_engine.dialect] = take_away
        self._runtime.watched[sync_engine.dialect] = digest(database or database_name(sync_engine))
        self._runtime.is_known_unwatched = True  # should it be so again, by `unwatch`

    def unwatch(self, engine: Engine | AsyncEngine) -> None:
        """Stop seeing the commits of `engine`; its sessions are answered by the database from now on."""
        if not isinstance(engine, Engine | AsyncEngine):
            raise CacheDeclarationError(f"unwatch({engine!r}): give the Engine or AsyncEngine that is watched.")
        dialect = engine_of(engine).dialect
        self._runtime.known_unwatched.add(repr(engine_of(engine)))
        self._runtime.watched.pop(dialect, None)
        self._runtime.catalogs.pop(dialect, None)
        for take_away in self._unwatch.pop(dialect, ()):
            take_away()
        self._runtime.near.clear()

    def close(self) -> None:
        """Stop watching and forget the store. Connections of event loops stay open: prefer `aclose` there."""
        self._disconnect()

    async def aclose(self) -> None:
        """`close`, and close the running loop's connections too."""
        wires = self._wires
        self._disconnect()
        if wires is not None:
            await wires.aclose()

    def ping(self) -> None:
        """Returns when the store answers; for readiness checks.

        Raises:
            StoreDown: it does not, or the cache is not connected.
        """
        run_now(self._store(suspending=False).read([self._runtime.namespace.encode()]))

    async def aping(self) -> None:
        """`ping` for async code."""
        await self._store(suspending=True).read([self._runtime.namespace.encode()])

    # ---- entities by their keys

    @overload
    def get(
        self, session: AsyncSession | async_scoped_session[Any], model: type[E], identity: Any
    ) -> Awaitable[E | None]: ...
    @overload
    def get(self, session: Session | scoped_session[Any], model: type[E], identity: Any) -> E | None: ...
    def get(self, session: Any, model: type[Any], identity: Any) -> Any:
        """The entity with this primary key, as `session.get` gives it, from the cache. Await it with an async session.

        `identity` is the key: a tuple if it has several columns, or a dict by the names of its attributes.

        >>> cache.get(session, Bin, 7)  # doctest: +SKIP

        Raises:
            CacheDeclarationError: no session, `model` is not mapped, or the key has another number of columns.
        """
        lookup = self._lookup(session, model)
        key = lookup.key_of(identity)
        entity = lookup.held(session, key)
        if entity is None:
            return lookup.get(session, *key)
        return _at_once(entity) if isinstance(session, _SUSPENDING) else entity

    @overload
    def get_many(
        self, session: AsyncSession | async_scoped_session[Any], model: type[E], identities: Iterable[K]
    ) -> Awaitable[dict[K, E]]: ...
    @overload
    def get_many(
        self, session: Session | scoped_session[Any], model: type[E], identities: Iterable[K]
    ) -> dict[K, E]: ...
    def get_many(self, session: Any, model: type[Any], identities: Iterable[Any]) -> Any:
        """The entities with these primary keys, by key and in that order; those that there are not are left out.

        One round trip finds what is kept, and one statement loads what is not. Nothing is served but current results,
        whatever the policy allows. Await it with an async session.

        Raises:
            CacheDeclarationError: as `get`.
        """
        lookup = self._lookup(session, model)
        keys = {identity: lookup.key_of(identity) for identity in identities}
        step = _by_identity(lookup.many(session, keys.values()), keys)
        return step if isinstance(session, _SUSPENDING) else run_now(step)

    def _for_statements(self, run: RunStatement, own: Own) -> RunStatement:
        function = self.query(entities=True, **own)(run)
        declared_by(function, ())[0].stays = True
        return function

    def _lookup(self, session: Any, model: type) -> Lookup:
        suspends = isinstance(session, _SUSPENDING)
        if not suspends and not isinstance(session, _BLOCKING):
            raise CacheDeclarationError(
                f"the session of get() and get_many() is the first argument, and not {session!r}."
            )
        lookup = self._lookups.get((model, suspends))
        if lookup is not None:
            return lookup

        def declare(function: Callable[..., Any], tags: Sequence[str]) -> tuple[Callable[..., Any], Declared]:
            wrapper = self.query(tags=tags)(function)
            return wrapper, declared_by(wrapper, ())[0]

        with self._lock:
            lookup = self._lookups.get((model, suspends))
            if lookup is None:
                lookup = self._lookups[model, suspends] = Lookup(model, declare, suspends=suspends)
        return lookup

    # ---- what one can do with a cached function

    def key_of(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which this call's result is kept."""
        declared, arguments = declared_by(function, args)
        return declared.key_of(arguments, kwargs).decode(errors="surrogatepass")

    def refresh(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function and keep its result, whatever was kept before. Await it if the function is async."""
        declared, arguments = declared_by(function, args)
        if declared.suspends:
            return refresh_later(declared, arguments, kwargs)  # type: ignore[return-value]
        return refresh_now(declared, arguments, kwargs)  # type: ignore[no-any-return]

    def bypass(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as if it were not cached: nothing is looked for and nothing kept. Await it if it is async.

        What it calls in turn is cached as ever; `off()` is for all that happens inside.
        """
        declared, arguments = declared_by(function, args)
        return declared.bypass(arguments, kwargs)  # type: ignore[no-any-return]

    @overload
    def drop(self, function: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[bool]: ...
    @overload
    def drop(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> bool: ...
    def drop(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """Forget this call's result; whether there was one. Await it if the function is async.

        A load that began before may put the result back; after a change that perfkit cannot see, `bump` its tags.

        Raises:
            StoreDown: the store did not take it.
        """
        declared, arguments = declared_by(function, args)
        key = declared.key_of(arguments, kwargs)
        self._runtime.near.drop(key)
        if declared.suspends:
            return self._drop_later(key)
        return bool(run_now(self._store(suspending=False).drop([key])))

    def warm(
        self,
        function: Callable[..., Any],
        calls: Iterable[Mapping[str, Any]],
        *,
        sessions: Callable[[], Session],
        workers: int = 4,
        progress: Callable[[Warmed], object] | None = None,
    ) -> Warmed:
        """Load what is not kept yet of these calls, in `workers` threads, each in a session of its own.

        `calls` are the arguments by name, without the session: `({"customer_id": each} for each in ids)`; they are
        taken one by one, so that there may be many. `progress` is told after each.

        Raises:
            CacheDeclarationError: the function is not cached, is async, or has not one parameter that is a session.
        """
        declared, bound = declared_by(function, ())
        if declared.suspends:
            raise CacheDeclarationError(f"{declared.keys.name} is async: await cache.awarm(…).")
        return WarmUp(declared, bound, calls, progress).run(sessions, workers)

    async def awarm(
        self,
        function: Callable[..., Any],
        calls: Iterable[Mapping[str, Any]],
        *,
        sessions: Callable[[], AsyncSession],
        workers: int = 4,
        progress: Callable[[Warmed], object] | None = None,
    ) -> Warmed:
        """`warm` for async functions, in `workers` tasks."""
        declared, bound = declared_by(function, ())
        if not declared.suspends:
            raise CacheDeclarationError(f"{declared.keys.name} is not async: call cache.warm(…).")
        return await WarmUp(declared, bound, calls, progress).run_later(sessions, workers)

    def verify(
        self,
        keys: Iterable[str],
        *,
        sessions: Callable[[], Session],
        progress: Callable[[Rechecked], object] | None = None,
    ) -> Rechecked:
        """Call the functions of these entries again, and compare: whether what is kept is what the database says.

        `keys` are those of entries, as `perfkit cache ls` and `key_of` give them; the arguments are read back from
        them. Each entry is loaded anew, in a session of its own. Async functions are skipped; `averify` is for those.

        Raises:
            CacheDeclarationError: the cache is not connected, watches no engine, or `keys` is one text.
        """
        self._check_verifiable(keys)
        return Recheck(self._declared, progress).run(keys, sessions)

    async def averify(
        self,
        keys: Iterable[str],
        *,
        sessions: Callable[[], AsyncSession],
        progress: Callable[[Rechecked], object] | None = None,
    ) -> Rechecked:
        """`verify` for async functions."""
        self._check_verifiable(keys)
        return await Recheck(self._declared, progress).run_later(keys, sessions)

    @overload
    def peek(  # type: ignore[overload-overlap]
        self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[Peeked[R] | None]: ...
    @overload
    def peek(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Peeked[R] | None: ...
    def peek(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """What is kept of this call and valid now; None if nothing is. Await it if the function is async.

        Loads nothing and counts nothing.
        """
        declared, arguments = declared_by(function, args)
        asked = ask(declared, arguments, kwargs, refresh=True)
        step = peeked(asked) if isinstance(asked, Call) else _nothing()
        return step if declared.suspends else run_now(step)

    @overload
    def explain(
        self, function: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[Explanation]: ...
    @overload
    def explain(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Explanation: ...
    def explain(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """Why this call is, or is not, answered by the cache. Await it if the function is async.

        Calls the function once, to see which of its lines run which statements, and keeps nothing of that.
        """
        declared, arguments = declared_by(function, args)
        asked = ask(declared, arguments, kwargs, refresh=True, explains=True)
        step = self._explain(declared, arguments, kwargs, asked)
        return step if declared.suspends else run_now(step)

    # ---- changes that cannot be seen

    def touch(self, session: AnySession, *tags: TagSource) -> None:
        """Say that the session's transaction changes `tags` in a way that cannot be seen: COPY, a procedure, a trigger.

        It joins the transaction: published if it commits, forgotten if it rolls back. A transaction that ran no SQL
        commits nothing, so touching it warns then.
        """
        carrier = carrier_in(session)
        if carrier is None:
            raise CacheDeclarationError(f"touch() needs a session or an open connection, not {session!r}.")
        if not tags:
            raise CacheDeclarationError("touch() of nothing: name at least one tag, or '*' for everything.")
        announce_by_hand(carrier, set(tags_by_hand(tags, self._metadata)))

    def bump(self, *tags: TagSource) -> None:
        """Make everything that depends on `tags` out of date, at once; `"*"` for the whole namespace.

        For changes made outside: by psql, by another program. One command, however many entries.

        Raises:
            StoreDown: the store did not take it. It stays owed, and this process reads from the database until then.
        """
        if not run_now(self._writer_by_hand(tags, suspending=False).bump()):
            raise _not_taken(tags)

    async def abump(self, *tags: TagSource) -> None:
        """`bump` for async code."""
        if not await self._writer_by_hand(tags, suspending=True).bump():
            raise _not_taken(tags)

    @staticmethod
    def noting_older() -> AbstractContextManager[list[OlderAnswer]]:
        """Inside, calls that are answered by older results (see `Policy`: `stale`, `fail_safe`) are listed as it goes.

        For a page that says so: `with cache.noting_older() as older: …`.
        """
        return noting_older()

    def noting_changes(self) -> AbstractContextManager[list[str]]:
        """Inside, the tags of what this process commits are listed as it goes, once for each commit."""
        return self._runtime.bumps.noted()

    @contextmanager
    def frozen_clock(self) -> Iterator[FrozenClock]:
        """Inside, the time of this cache stands still until `clock.tick(seconds)`. For tests; with `memory://` only.

        Raises:
            CacheDeclarationError: it is not connected to memory: the time of a server is its own.
        """
        with self._runtime.frozen() as clock:
            yield clock

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, cached functions read from the database and keep nothing; commits are announced as ever."""
        with ATTENTION:
            before = self._runtime.turn_off()
            try:
                yield
            finally:
                self._runtime.turn_back(before)

    def listen(self, listener: Callable[[CacheEvent], object]) -> Callable[[], None]:
        """Call `listener` with what becomes of each call, in the thread or task of the caller. Returns what ends that.

        For monitors, beside `stats()`. Hits that ask nobody, those under a lease, are only counted. A listener must not
        wait; what it raises is logged.
        """
        if not callable(listener):
            raise CacheDeclarationError(f"listen({listener!r}): give a function that takes a CacheEvent.")
        return self._runtime.listeners.add(listener)

    def stats_of(self, function: Callable[..., Any]) -> FunctionStats:
        """Totals of one function in this process so far.

        Raises:
            CacheDeclarationError: it is not cached.
        """
        self._runtime.near.count()
        return declared_by(function, ())[0].tally.stats()

    def stats(self) -> CacheStats:
        """Totals of this process so far."""
        return stats_of(self._runtime, self._functions())

    # ---- inside

    def _functions(self) -> list[FunctionStats]:
        self._runtime.near.count()
        return [declared.tally.stats() for declared in self._declared]

    def _disconnect(self) -> None:
        for take_away in chain(*self._unwatch.values()):
            take_away()
        self._unwatch.clear()
        self._runtime.watched.clear()
        self._runtime.catalogs.clear()
        self._runtime.is_known_unwatched = False
        self._runtime.known_unwatched.clear()
        self._runtime.leave()  # which may have something to say to the store
        if self._wires is not None:
            self._wires.close()
        self._wires = None

    def _check_verifiable(self, keys: Iterable[str]) -> None:
        if isinstance(keys, str):
            raise CacheDeclarationError(f"verify({keys!r}): give a list of keys.")
        if not self._runtime.is_connected or not self._runtime.watched:
            raise CacheDeclarationError(
                f"cache {self._runtime.namespace!r} is not connected, or watches no engine: nothing could be called."
            )

    def _store(self, *, suspending: bool) -> Store:
        return self._runtime.connected(suspending=suspending).store

    async def _explain(
        self, declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any], asked: Call | Hit | Reason
    ) -> Explanation:
        name = declared.keys.name
        if isinstance(asked, Call):
            return await explained(asked, name, self._runtime.bumps)
        try:
            key = declared.key_of(args, kwargs).decode(errors="surrogatepass")
        except CacheDeclarationError:
            key = ""
        missing = declared.unwatched(carriers_in(declared.keys.bind(*args, **kwargs)))
        why = f"nobody watches {missing}: call watch() for it" if missing and asked is Reason.NOT_WATCHED else ""
        return Explanation(name, key, "bypassed", asked if isinstance(asked, Reason) else None, why)

    async def _drop_later(self, key: bytes) -> bool:
        return bool(await self._store(suspending=True).drop([key]))

    def _writer_by_hand(self, tags: Sequence[TagSource], *, suspending: bool) -> Writer:
        if not tags:
            raise CacheDeclarationError("bump() of nothing: name at least one tag, or '*' for everything.")
        named = list(dict.fromkeys(tags_by_hand(tags, self._metadata)))
        self._runtime.bumps.note(named, line_of_caller())
        return self._announcer.writer(named, suspending=suspending)
