"""An export beside a server-side cursor: entities, and rows of five columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from benchmarks.jobs import Job
from benchmarks.rounds import Contender, Figure, measure
from perfkit.paging import export

CHUNK = 5_000


def exports(engine: Engine, rows: int, rounds: int) -> list[Figure]:
    """Everything up to a number of rows, by its primary key."""
    found = {
        "rows": select(Job.id, Job.status, Job.created, Job.active, Job.name),
        "entities": select(Job),
    }
    contenders = []
    for what, statement in found.items():
        floor = f"{what}, a server-side cursor"
        everything = statement.where(Job.id <= rows).order_by(Job.id)
        ways: dict[str, Callable[..., int]] = {floor: _streamed, f"{what}, perfkit": _paged}
        contenders += [
            Contender(name=name, floor=floor, once=partial(way, engine, everything), calls=1)
            for name, way in ways.items()
        ]
    return measure(contenders, rounds=rounds)


def _streamed(engine: Engine, statement: Any) -> int:
    with Session(engine) as session:
        result = session.execute(statement, execution_options={"yield_per": CHUNK})
        return sum(len(part) for part in result.partitions())


def _paged(engine: Engine, statement: Any) -> int:
    with Session(engine) as session:
        return sum(len(page) for page in export(session, statement, chunk=CHUNK))
