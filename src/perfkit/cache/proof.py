"""What is held in this process of one call's result: when it is believed, and how it is proven again.

Proof: tests/protocol/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from perfkit.cache.cells import version_of
from perfkit.cache.declared import Declared
from perfkit.cache.near import Held
from perfkit.cache.raised import Raised
from perfkit.cache.read import (
    Bearing,
    Hit,
    Kept,
    Ports,
)
from perfkit.clock import SYSTEM


class Proof:
    """One call's part of what is held in this process: what it finds there, and what it leaves.

    Made before the store is asked: only what was so then counts as proven.
    """

    __slots__ = ("_asked_s", "_declared", "_generation", "_key", "_lease_s", "_ports", "_tenant", "_values", "held")

    def __init__(self, declared: Declared, key: bytes, values: Sequence[Any], ports: Ports, tenant: object) -> None:
        near = declared.runtime.near
        self._declared, self._key, self._values, self._ports = declared, key, values, ports
        self._tenant = () if declared.policy.tenant is None else (tenant, type(tenant))
        self._lease_s = declared.lease_s(ports)
        self._generation, self._asked_s = near.generation, near.now()
        self.held = None if self._lease_s is None else near.find(key)

    def believed(self) -> Hit | None:
        """What is held, if that asks nobody."""
        held = self.held
        if held is None:
            return None
        if held.generation is not self._generation or self._asked_s >= held.until:
            instant = self._ports.instant
            if instant is None or self._ports.arrears or self._asked_s >= held.expires_s:
                return None
            seen = instant.read_now(self.cells())
            if tuple(map(version_of, seen.values, seen.epochs)) != held.versions:
                return None
            self._prove(held)
        return self._hit(held)

    async def renewed(self) -> Hit | None:
        """What is held, if the store says that its versions are still the same: a round trip without the result.

        Raises:
            StoreDown
        """
        held = self.held
        if held is None or not held.tags or self._asked_s >= held.expires_s:
            return None
        seen = await self._ports.store.read(self.cells())
        if tuple(map(version_of, seen.values, seen.epochs)) != held.versions:
            return None
        self._prove(held)
        return self._hit(held)

    def age_s(self) -> float | None:
        """How long ago what is held was last known to be current; None if nothing is held."""
        held = self.held
        generation = None if held is None else held.generation
        if held is None or generation is None:
            return None
        now_s = self._declared.runtime.near.now()
        known_s = held.proven_s
        if self._ports.instant is not None:
            known_s = now_s if generation.ended_s is None else generation.ended_s
        return max(0.0, now_s - min(known_s, held.expires_s))

    def as_it_was(self) -> Hit:
        """What is held, current or not."""
        assert self.held is not None
        self.held.asked()
        return Hit(self.held.read(), Kept(b"", Bearing(self.held.tags, self.held.versions), self.held.at_ms))

    @contextmanager
    def refreshing(self) -> Iterator[bool]:
        """Whether this caller is the one who loads again what is held, of those who find it no longer current."""
        held, near = self.held, self._declared.runtime.near
        assert held is not None
        is_mine = near.claim(held)
        try:
            yield is_mine
        finally:
            if is_mine:
                held.is_claimed = False

    def failed(self, pause_s: float) -> None:
        """Its load did: for a while nobody tries again who holds something."""
        if self.held is not None:
            self.held.retry_s = self._declared.runtime.near.now() + pause_s

    def has_just_failed(self) -> bool:
        return self.held is not None and self._declared.runtime.near.now() < self.held.retry_s

    def cells(self) -> tuple[bytes, ...]:
        """Where the versions are that prove what is held."""
        assert self.held is not None
        if self.held.cells is None:
            self.held.cells = self._declared.runtime.cells(self.held.tags)
        return self.held.cells

    def hold(self, kept: Kept, value: Any) -> None:
        """Hold a result that is as current as the store was when this was made."""
        if self._lease_s is None:
            return
        life_ms = self._declared.keeping.until_due_ms(kept.life_ms, kept.took_us, self._ports.chance)
        age_ms = max(0, self._ports.clock.wall_ms() - kept.at_ms)
        self.held = self._declared.runtime.near.hold(
            self._key,
            kept.payload,
            value,
            self._declared.codec.unpack,
            kept.bearing.tags,
            kept.bearing.versions,
            kept.at_ms,
            self._asked_s + (life_ms - age_ms) / 1000,
            self._declared.tally,
        )
        self._prove(self.held)
        self._name(self.held)

    def _prove(self, held: Held) -> None:
        # the generation last: who reads it sees the rest
        held.proven_s = self._asked_s
        held.until = min(held.expires_s, self._asked_s + (self._lease_s or 0.0))
        held.generation = self._generation

    def _hit(self, held: Held) -> Hit:
        self._name(held)
        return self.as_it_was()

    def _name(self, held: Held) -> None:
        """Let the next call with these arguments find it the quick way."""
        if not self._lease_s or self._ports.clock is not SYSTEM:  # the quick way looks at no other clock
            return
        if type(held.value) is Raised or self._declared.has_entities:
            return
        quick, runtime = self._declared.quick, self._declared.runtime
        name = quick.name_of(self._values, *self._tenant)
        if name is not None and quick.table.get(name) is not held:
            for each in name:
                if isinstance(each, Engine):
                    runtime.mind(each)
            runtime.near.alias(held, quick.table, name)
