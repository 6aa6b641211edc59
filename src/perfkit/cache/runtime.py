"""Runtime: what one cache is while the process runs; shared by its functions and by the commit door."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Literal

from sqlalchemy import Dialect

from perfkit.cache.arrears import Arrears
from perfkit.cache.flights import Flights
from perfkit.cache.policy import Policy, Reason
from perfkit.cache.read import Filled, Hit, Ports
from perfkit.cache.store import InstantStore, Store
from perfkit.counters import Counters
from perfkit.sqla.private import in_greenlet
from perfkit.waiting import Blocking, InGreenlet, Suspending

Total = tuple[
    Literal["hit", "fill", "shared", "bypass", "unkept", "odd", "marked", "unmarked", "refused", "unbumped"],
    Reason | None,
]

_off: ContextVar[frozenset[int]] = ContextVar("perfkit_cache_off", default=frozenset())


class Runtime:
    """Owns the state of one cache: its ports while it is connected, the databases it watches, its totals."""

    def __init__(self, namespace: str, policy: Policy) -> None:
        self.namespace, self.policy = namespace, policy
        self.watched: dict[Dialect, str] = {}  # the databases whose commits are seen, by their names in keys
        self.arrears = Arrears()
        self.totals: Counters[Total] = Counters()
        self._flights = Flights()
        self._ports: tuple[Ports, Ports, Ports] | None = None

    @property
    def is_connected(self) -> bool:
        return self._ports is not None

    def use(self, *, blocking: Store, suspending: Store, greenlet: Store) -> None:
        """Connect: a store for each way to wait."""
        self.arrears.use(blocking)
        instant = blocking if isinstance(blocking, InstantStore) else None
        self._ports = (
            Ports(blocking, Blocking(), self._flights, self.arrears, instant),
            Ports(suspending, Suspending(), self._flights, self.arrears, instant),
            Ports(greenlet, InGreenlet(), self._flights, self.arrears, instant),
        )

    def leave(self) -> None:
        """Disconnect."""
        self._ports = None
        self.arrears.leave()

    def ports(self, *, suspending: bool) -> Ports | None:
        """What a caller of this kind waits on; None while not connected."""
        if self._ports is None:
            return None
        return self._ports[1 if suspending else 2 if in_greenlet() else 0]

    @property
    def is_off(self) -> bool:
        return id(self) in _off.get()

    def turn_off(self) -> Token[frozenset[int]]:
        """In this context; `turn_back` takes the token."""
        return _off.set(_off.get() | {id(self)})

    def turn_back(self, before: Token[frozenset[int]]) -> None:
        """As it was."""
        _off.reset(before)

    def count(self, answer: Hit | Filled | Reason) -> None:
        """Add one call to the totals."""
        if isinstance(answer, Hit):
            self.totals.add(("hit", None))
        elif isinstance(answer, Reason):
            self.totals.add(("bypass", answer))
        else:
            self.totals.add(("shared" if answer.shared else "fill", None))
            if answer.unkept is not None:
                self.totals.add(("unkept", answer.unkept))
            if answer.odd is not None:
                self.totals.add(("odd", answer.odd))
