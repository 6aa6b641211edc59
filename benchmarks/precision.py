"""How precise dependencies are: of the results that a write makes out of date, how many had not changed.

500 bins of 50 organizations; a result for each bin and one for each organization. Each write changes one bin, so that
two results change. Counted, not timed: the figures are the same on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Integer, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit import Cache
from perfkit.cache import only

BINS, ORGANIZATIONS = 500, 50


class Base(DeclarativeBase):
    """The benchmark's models: the same table, without and with a column that has tags of its own."""


class Plain(Base):
    """Rows and the table have tags."""

    __tablename__ = "plain_bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(Integer, index=True)
    litres: Mapped[int]


class Tagged(Base):
    """So have the bins of each organization."""

    __tablename__ = "tagged_bins"
    __cache_tags__ = ("organization_id",)
    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(Integer, index=True)
    litres: Mapped[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What one write did, on average, to the results that were kept."""

    level: str
    kept: int
    changed: float
    renewed: float

    @property
    def needless(self) -> float:
        """Results that were loaded again and were the same."""
        return self.renewed - self.changed


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the table."""
    writes = 20 if quick else 200
    found = [
        _measured("the table, by tags=only(…)", Plain, writes, by_table=True),
        _measured("rows and the table, found", Plain, writes),
        _measured("rows and organizations, found", Tagged, writes),
    ]
    table = Table(title=f"Results that one write makes out of date, of {found[0].kept}", title_justify="left")
    for heading in ("dependencies", "changed", "renewed", "needlessly"):
        table.add_column(heading, justify="left" if heading == "dependencies" else "right")
    for each in found:
        table.add_row(each.level, f"{each.changed:.1f}", f"{each.renewed:.1f}", f"{each.needless:.1f}")
    Console(width=100).print(table)
    return {"precision": [{**asdict(each), "needless": each.needless} for each in found]}


def _measured(level: str, model: type[Plain | Tagged], writes: int, *, by_table: bool = False) -> Precision:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    cache, dice = Cache("precision"), random.Random(7)
    tags = only(model) if by_table else ()

    @cache.query(tags=tags)
    def litres_of(session: Session, key: int) -> int:
        return session.scalars(select(model.litres).where(model.id == key)).one()

    @cache.query(tags=tags)
    def total_of(session: Session, key: int) -> int:
        return session.scalars(select(func.sum(model.litres)).where(model.organization_id == key)).one()

    cache.connect("memory://")
    cache.watch(engine, Base.metadata)
    with Session(engine) as session:
        session.add_all([model(id=n, organization_id=n % ORGANIZATIONS, litres=n) for n in range(BINS)])
        session.commit()
    calls: list[tuple[Callable[[Session, int], int], int]] = [(litres_of, n) for n in range(BINS)]
    calls += [(total_of, n) for n in range(ORGANIZATIONS)]
    values: dict[tuple[Any, int], int] = {}
    changed = renewed = 0
    for number in range(writes + 1):
        with Session(engine) as session:
            before = cache.stats().fills
            now = {(function, key): function(session, key) for function, key in calls}
            if number:
                renewed += cache.stats().fills - before
                changed += sum(now[call] != values[call] for call in calls)
            values = now
        with Session(engine) as session:
            one: Any = session.get_one(model, dice.randrange(BINS))
            one.litres += 1
            session.commit()
    cache.close()
    engine.dispose()
    return Precision(level=level, kept=len(calls), changed=changed / writes, renewed=renewed / writes)
