"""Runtime: what one cache is while the process runs; shared by its functions and by the commit door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Literal
from weakref import WeakSet

from sqlalchemy import Dialect, Engine, event

from perfkit.cache.arrears import Arrears
from perfkit.cache.background import Background
from perfkit.cache.bumps import Bumps
from perfkit.cache.events import Listeners
from perfkit.cache.flights import Flights
from perfkit.cache.guard import Guard
from perfkit.cache.memory import MemoryStore
from perfkit.cache.near import Near
from perfkit.cache.policy import Policy
from perfkit.cache.read import Ports
from perfkit.cache.relations import Known
from perfkit.cache.reports import Reports
from perfkit.cache.store import InstantStore, Store
from perfkit.cache.tags import cell_key
from perfkit.clock import SYSTEM, Clock, FrozenClock
from perfkit.counters import Counters
from perfkit.errors import CacheDeclarationError, StoreDown
from perfkit.sqla.catalog import NOTHING_KNOWN, Catalog, Relations
from perfkit.sqla.private import in_greenlet
from perfkit.waiting import Blocking, InGreenlet, Suspending

Commits = Literal["marked", "unmarked", "refused", "unbumped", "unread"]

_off: ContextVar[frozenset[int]] = ContextVar("perfkit_cache_off", default=frozenset())


class Runtime:
    """Owns the state of one cache: its ports while it is connected, the databases it watches, its totals."""

    def __init__(self, namespace: str, policy: Policy) -> None:
        self.namespace, self.policy = namespace, policy
        self.watched: dict[Dialect, str] = {}  # the databases whose commits are seen, by their names in keys
        self.catalogs: dict[Dialect, Catalog] = {}
        self.known = Known()
        self.arrears = Arrears()
        self.commits: Counters[Commits] = Counters()
        self.bumps = Bumps()
        self.listeners = Listeners()
        self.reports = Reports(namespace)
        self.near = Near(max_bytes=policy.l1_bytes)
        self._minded: WeakSet[Engine] = WeakSet()
        self._leave_store: Callable[[], None] = lambda: None
        self._flights = Flights()
        self.background = Background()
        self.guard: Guard | None = None  # of what is in the store, if it is guarded
        self._ports: tuple[Ports, Ports, Ports] | None = None
        self.is_known_unwatched = False  # nobody need be told that it watches nothing
        self.known_unwatched: set[str] = set()  # engines of which somebody was told that it does not watch them

    @property
    def is_connected(self) -> bool:
        return self._ports is not None

    def use(self, *, blocking: Store, suspending: Store, greenlet: Store) -> None:
        """Connect: a store for each way to wait."""
        self.arrears.use(blocking)
        instant = blocking if isinstance(blocking, InstantStore) else None
        clock: Clock = SYSTEM
        if instant is not None:
            clock = instant.clock
            self._leave_store = instant.listen(self.near.changed)
        self.near.now = clock.monotonic
        self._ports = (
            Ports(blocking, Blocking(), self._flights, self.arrears, instant, clock),
            Ports(suspending, Suspending(), self._flights, self.arrears, instant, clock),
            Ports(greenlet, InGreenlet(), self._flights, self.arrears, instant, clock),
        )

    @contextmanager
    def frozen(self) -> Iterator[FrozenClock]:
        """Inside, time goes by `tick` alone.

        Raises:
            CacheDeclarationError: the store is not this process's own.
        """
        store = None if self._ports is None else self._ports[0].instant
        if not isinstance(store, MemoryStore):
            raise CacheDeclarationError(
                f"cache {self.namespace!r} is not connected to memory://, and the time of a server is its own."
            )
        before, clock = store.clock, FrozenClock()
        self._turn(store, clock)
        try:
            yield clock
        finally:
            self._turn(store, before)
            store.forget_entries()  # they would live until a time that has not come yet

    def _turn(self, store: MemoryStore, clock: Clock) -> None:
        store.clock = clock
        self.near.now = clock.monotonic
        self.near.clear()
        if self._ports is not None:
            blocking, suspending, greenlet = (each._replace(clock=clock) for each in self._ports)
            self._ports = blocking, suspending, greenlet

    def leave(self) -> None:
        """Disconnect."""
        self._ports = self.guard = None
        self.reports.leave()
        self.arrears.leave()
        self._leave_store()
        self.background.close()
        self.near.clear()

    def ports(self, *, suspending: bool) -> Ports | None:
        """What a caller of this kind waits on; None while not connected."""
        if self._ports is None:
            return None
        return self._ports[1 if suspending else 2 if in_greenlet() else 0]

    def connected(self, *, suspending: bool) -> Ports:
        """The same, for who needs them.

        Raises:
            StoreDown: not connected.
        """
        ports = self.ports(suspending=suspending)
        if ports is None:
            raise StoreDown(f"cache {self.namespace!r} is not connected.")
        return ports

    def mind(self, engine: Engine) -> None:
        """An engine is part of the names of what is held: forget all that when its own options change."""
        if engine in self._minded:
            return
        self._minded.add(engine)
        event.listen(engine, "set_engine_execution_options", lambda engine, options: self.near.clear())

    def relations(self, dialect: Dialect) -> Relations:
        """What the catalog of a watched database says."""
        catalog = self.catalogs.get(dialect)
        return NOTHING_KNOWN if catalog is None else catalog.relations

    def cells(self, tags: Iterable[bytes]) -> tuple[bytes, ...]:
        """Where the cells of `tags` live."""
        return tuple(cell_key(self.namespace, tag.decode(errors="surrogateescape")) for tag in tags)

    @property
    def is_off(self) -> bool:
        return id(self) in _off.get()

    def turn_off(self) -> Token[frozenset[int]]:
        """In this context; `turn_back` takes the token."""
        return _off.set(_off.get() | {id(self)})

    def turn_back(self, before: Token[frozenset[int]]) -> None:
        """As it was."""
        _off.reset(before)
