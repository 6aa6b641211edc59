"""Hostile entries without end: `python -m tests.cache.fuzz 1000000` judges as many.

Each is made from a good one, by bytes that are changed, cut, joined and repeated, by parts that are exchanged for
others, or by structure that nobody would write. What `judge` may answer is a miss, or a hit; one with the very value
of a good entry, if the bytes were changed after they had been signed. Anything else that it raises ends the run.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgpack
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, make_transient_to_detached, mapped_column, relationship
from sqlalchemy.orm.attributes import set_committed_value

from perfkit.cache.cells import version_of
from perfkit.cache.entries import Entry, seal
from perfkit.cache.guard import Guard
from perfkit.cache.keeping import Keeping
from perfkit.cache.learned import Expecting, Learner
from perfkit.cache.read import Capture, Hit, Named, Question, judge
from perfkit.cache.store import Seen
from perfkit.codec import Codec, Graph
from perfkit.errors import Unreadable
from tests.codec.mutation import mutate
from tests.codec.samples import TYPES, Bin, Kind

KEY, CELL, EPOCH = b"key", b"c" + b"v" * 20, b"e"
VERSION = version_of(CELL, EPOCH)
VALUES: list[Any] = [
    {"a": [1, 2.5, None, b"x", "ä", True, -(2**40)]},
    [Bin(number, Kind.GLASS) for number in range(3)],
    (),
    ["glass"] * 50,
]


class Base(DeclarativeBase):
    """The fuzzer's models."""


class Depot(Base):
    """With trucks."""

    __tablename__ = "depots"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    trucks: Mapped[list[Truck]] = relationship(back_populates="depot")


class Truck(Base):
    """Of a depot."""

    __tablename__ = "trucks"
    id: Mapped[int] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]
    depot_id: Mapped[int] = mapped_column(ForeignKey("depots.id"))
    depot: Mapped[Depot] = relationship(back_populates="trucks")


def entities() -> list[Any]:
    """What a session would hold."""
    session = Session()
    depot = Depot(id=1, name="north")
    trucks = [Truck(id=number, seen_at=datetime(2026, 1, 2), depot_id=1) for number in (1, 2)]  # noqa: DTZ001
    for each in (depot, *trucks):
        make_transient_to_detached(each)
        session.add(each)
        session.expunge(each)
        session.add(each)
    set_committed_value(depot, "trucks", trucks)
    for truck in trucks:
        set_committed_value(truck, "depot", depot)
    return [session, [*trucks, depot, {"first": trucks[0]}]]


STRANGE: list[Any] = [
    None,
    True,
    -1,
    2**63,
    1.5,
    float("nan"),
    b"",
    b"\xc1" * 9,
    "text",
    (VERSION,),
    (b"bins", b"bins"),
    (b"x" * 600,),
    tuple(b"t%d" % i for i in range(1200)),
    msgpack.ExtType(7, b"x"),
    msgpack.Timestamp(1, 2),
]


class Fuzzer:
    """Makes hostile entries, and judges them as a read would."""

    def __init__(self, guard: Guard | None, *, seed: int) -> None:
        self.misses = self.hits = 0
        self._random = random.Random(seed)
        self._guard, self._codec = guard, Codec(TYPES, entities=True)
        self._session, graph = entities()
        self._graph = self._codec.unpack(self._codec.pack(graph))
        learner = Learner("fuzz", "fuzz")
        known = Named((b"bins",), (b"cell",))
        plain = Question(KEY, known, Keeping(60_000, 100_000), guard=guard)
        self._questions = [plain, plain._replace(extra=Expecting(learner, KEY, known, dict))]
        self._bodies = [
            seal(Entry(self._codec.pack(value), (b"bins",), (VERSION,), 1, 2, 3), compress_above=compress_above)
            for value in (*VALUES, graph)
            for compress_above in (None, 0)
        ]
        self._allowed = [self._codec.pack(value) for value in VALUES]
        self.good = [self._closed(body) for body in self._bodies]

    def once(self) -> None:
        """One hostile entry."""
        raw, is_signed = self._hostile()
        found = self.judged(raw)
        if isinstance(found, Capture):
            self.misses += 1
            return
        self.hits += 1
        if isinstance(found.value, Graph):
            assert is_signed or found.value.plainly() == self._graph.plainly(), found
            with suppress(Unreadable):  # the function is called then
                found.value.into(Session())
        else:
            assert is_signed or self._codec.pack(found.value) in self._allowed, found

    def judged(self, raw: bytes) -> Hit | Capture:
        """What a read makes of it."""
        asked = self._random.choice(self._questions)
        return judge(asked, Seen([raw, CELL], [EPOCH, EPOCH]), self._codec)

    def _closed(self, body: bytes) -> bytes:
        return body if self._guard is None else self._guard.close(KEY, body)

    def _hostile(self) -> tuple[bytes, bool]:
        """Bytes, and whether they were changed before they were signed: such a hit may have any value."""
        is_open = self._guard is None
        way = self._random.randrange(4)
        if way == 0:
            return mutate(self._random.choice(self.good), self.good, self._random), is_open
        if way == 1:  # from inside the guard: as if the secret were known
            return self._closed(mutate(self._random.choice(self._bodies), self._bodies, self._random)), True
        if way == 2:
            whole = list(msgpack.unpackb(self._random.choice(self._bodies), use_list=False))
            whole[self._random.randrange(len(whole))] = self._strange(0)
            return self._closed(msgpack.packb(whole)), True
        return self._random.randbytes(self._random.randrange(60)), is_open

    def _strange(self, depth: int) -> Any:
        nested = self._random.randrange(8) if depth < 3 else 0
        if nested == 1:
            return (self._strange(depth + 1),) * 3
        if nested == 2:
            return {self._random.choice("ab"): self._strange(depth + 1)}
        return self._random.choice(STRANGE)


def main(times: int) -> None:
    """Judge as many for each kind of guard, and say how it went."""
    secret = b"a secret for the fuzzer"
    for name, guard in (
        ("unsigned", None),
        ("signed", Guard([secret], encrypts=False)),
        ("encrypted", Guard([secret], encrypts=True)),
    ):
        fuzzer, began_s = Fuzzer(guard, seed=time.time_ns()), time.perf_counter()
        for _ in range(times // 3 + 1):
            fuzzer.once()
        took_s = time.perf_counter() - began_s
        print(f"{name}: {fuzzer.misses:,} misses, {fuzzer.hits:,} hits of the right shape, in {took_s:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
