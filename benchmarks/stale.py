"""Stale reads, counted: three readers and two writers, of whom one in twenty dies just after its COMMIT.

Before each cached read the reader asks the database itself, on a connection of its own in AUTOCOMMIT: what it gets then
is visible, and a cached read that starts afterwards and returns less is stale (V). Writers leave the highest number
whose commit() has returned in shared memory; a read that starts afterwards and returns less is stale, too (A). When all
have stopped and every mark has run out, each row is read once more: less than the database has is there to stay (P).
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from multiprocessing.process import BaseProcess
from typing import Any

import psycopg
import redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, delete, insert, select
from sqlalchemy.exc import DBAPIError

from benchmarks.contenders import CONTENDERS, MARK_HOLD_S, Base, Contender, Row
from tools import services

READERS, WRITERS = 3, 2
DEATH = 0.05  # of a writer, right after its COMMIT
BETWEEN_WRITES_S = 0.01
PATIENCE = 3
ASK = "SELECT n FROM rows WHERE id = %s"
PROCESSES = multiprocessing.get_context("forkserver")  # forks of a process that has no threads
PROCESSES.set_forkserver_preload(["benchmarks.stale"])

MIXES: dict[str, int] = {"one hot row": 1, "Zipf over 1,000 rows": 1000}
ROWS = max(MIXES.values())


@dataclass(slots=True)
class Count:
    """What one run of one contender came to."""

    reads: int = 0
    loads: int = 0
    stale_visible: int = 0
    stale_acknowledged: int = 0
    longest_us: int = 0
    commits: int = 0
    deaths: int = 0
    left: int = 0
    seconds: float = 0.0

    def add(self, other: Count) -> None:
        for each in fields(self):
            mine, its = getattr(self, each.name), getattr(other, each.name)
            setattr(self, each.name, max(mine, its) if each.name == "longest_us" else mine + its)


class Board:
    """What the processes leave each other: numbers in a mapped file, without locks, as a killed process frees none."""

    def __init__(self, path: str) -> None:
        sizes = [1, *[ROWS] * WRITERS, *[5] * READERS, WRITERS]
        with open(path, "r+b") as file:  # noqa: PTH123 - for its descriptor
            file.truncate(8 * sum(sizes))
            numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        parts = [numbers[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
        self._path = path
        self.stop, self.commits = parts[0], parts[-1]
        self.acknowledged, self.readers = parts[1 : 1 + WRITERS], parts[1 + WRITERS : -1]

    def __reduce__(self) -> tuple[type[Board], tuple[str]]:
        return Board, (self._path,)


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the table; end the program with 1 if strict had a stale read."""
    rounds, seconds = (1, 2.0) if quick else (3, 6.0)
    with services.running() as up:
        if up.postgres_url is None or up.redis_url is None:
            print("No PostgreSQL or no Redis to be had: nothing is measured.", file=sys.stderr)
            return {}
        counts = compare(up.postgres_url, up.redis_url, list(CONTENDERS), rounds=rounds, seconds=seconds)
    _show(counts)
    if any(_is_stale(count) for (name, _), count in counts.items() if name.startswith("perfkit, strict")):
        sys.exit("strict had a stale read")
    return {"stale": [{"contender": name, "mix": mix, **asdict(count)} for (name, mix), count in counts.items()]}


def compare(
    database: str, store: str, names: list[str], *, rounds: int, seconds: float
) -> dict[tuple[str, str], Count]:
    """Every contender on every mix, in turns: what slows the machine for a while slows all alike."""
    counts = {(name, mix): Count() for name in names for mix in MIXES}
    address = database.replace("postgresql:", "postgresql+psycopg:")
    for _ in range(rounds):
        for (name, mix), count in counts.items():
            count.add(one_run(address, store, name, MIXES[mix], seconds))
    return counts


def one_run(
    database: str, store: str, name: str, rows: int, seconds: float, enough: Callable[[Count], Any] = lambda _: True
) -> Count:
    """One contender, for some seconds and until `enough` happened, on a database and a store that are emptied first."""
    empty(database, store)
    with tempfile.NamedTemporaryFile(prefix="perfkit-stale-") as file:
        return _run_on(Board(file.name), database, store, name, rows, seconds, enough)


def _run_on(
    board: Board,
    database: str,
    store: str,
    name: str,
    rows: int,
    seconds: float,
    enough: Callable[[Count], Any],
) -> Count:
    work: list[BaseProcess] = [
        PROCESSES.Process(target=_reads, args=(database, store, name, rows, board, i), daemon=True)
        for i in range(READERS)
    ]
    deaths = 0
    with connected(database) as engine:
        for process in work:
            process.start()
        writers: list[BaseProcess] = [_writer(database, store, name, rows, board, i) for i in range(WRITERS)]
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds or not enough(_sum(board, deaths, passed)):
            for i, writer in enumerate(writers):
                writer.join(0.01)
                if writer.exitcode is not None:
                    deaths += 1
                    writers[i] = _writer(database, store, name, rows, board, i)
        board.stop[0] = 1
        for process in (*work, *writers):
            process.join(30)
        count = _sum(board, deaths, time.monotonic() - began)
        time.sleep(MARK_HOLD_S * 1.5)  # until every mark of a dead writer has run out
        contender = CONTENDERS[name](engine, store)
        with engine.connect() as connection:
            there = connection.execute(select(Row.id, Row.n)).all()
        count.left = sum(_read(contender, row_id) < n for row_id, n in there)
        return count


def _sum(board: Board, deaths: int, seconds: float) -> Count:
    count = Count(commits=sum(board.commits), deaths=deaths, seconds=seconds)
    for reads, loads, visible, acknowledged, longest_us in board.readers:
        count.add(
            Count(
                reads=reads,
                loads=loads,
                stale_visible=visible,
                stale_acknowledged=acknowledged,
                longest_us=longest_us,
            )
        )
    return count


def _writer(database: str, store: str, name: str, rows: int, board: Board, place: int) -> BaseProcess:
    process = PROCESSES.Process(target=_writes, args=(database, store, name, rows, board, place), daemon=True)
    process.start()
    return process


def _read(contender: Contender, row_id: int) -> int:
    """Again, where this process stood still for so long that the database ended its transaction: `idle_timeout`."""
    for _ in range(PATIENCE):
        with suppress(DBAPIError):
            return contender.read(row_id)
    return contender.read(row_id)


def _reads(database: str, store: str, name: str, rows: int, board: Board, place: int) -> None:
    """A reader's process."""
    with connected(database) as engine:
        contender: Contender = CONTENDERS[name](engine, store)
        pick = picker(rows)
        since: dict[tuple[int, int], float] = {}  # when a number of a row was first seen
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as direct:
            mine = board.readers[place]
            while not board.stop[0]:
                row_id = pick()
                acknowledged = max(each[row_id] for each in board.acknowledged)
                ((visible,),) = direct.execute(ASK, (row_id,))
                since.setdefault((row_id, visible), time.monotonic())
                began_s = time.monotonic()
                found = _read(contender, row_id)
                mine[0] += 1
                mine[1] = contender.loads
                if found < visible:
                    mine[2] += 1
                    newer = min(at for (row, n), at in since.items() if row == row_id and n > found)
                    mine[4] = max(mine[4], int((began_s - newer) * 1e6))
                if found < acknowledged:
                    mine[3] += 1
                if len(since) > 5000:
                    since.clear()


def _writes(database: str, store: str, name: str, rows: int, board: Board, place: int) -> None:
    """A writer's process, until it is told to stop or dies."""
    with connected(database) as engine:
        _die_after_some_commits(engine)
        contender: Contender = CONTENDERS[name](engine, store)
        pick = picker(rows)
        mine = board.acknowledged[place]
        while not board.stop[0]:
            row_id = pick()
            mine[row_id] = max(mine[row_id], contender.write(row_id))
            board.commits[place] += 1
            time.sleep(BETWEEN_WRITES_S)


def _die_after_some_commits(engine: Engine) -> None:
    # below everything that listens to commits: it is done before anybody hears of it
    real: Callable[[Any], None] = engine.dialect.do_commit

    def commit(connection: Any) -> None:
        real(connection)
        if random.random() < DEATH:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(engine.dialect, "do_commit", commit)  # noqa: B010 - a method, by design


def picker(rows: int) -> Callable[[], int]:
    """Gives rows as often as their places say, after Zipf."""
    chance = random.Random(os.getpid())
    weights = [1 / (i + 1) for i in range(rows)]
    ahead: list[int] = []

    def pick() -> int:
        if not ahead:
            ahead.extend(chance.choices(range(rows), weights, k=1000))
        return ahead.pop()

    return pick


@contextmanager
def connected(database: str) -> Iterator[Engine]:
    """An engine, for the time of a block."""
    engine = create_engine(database)
    yield engine
    engine.dispose()


def empty(database: str, store: str) -> None:
    """Nothing in the store, and every row at 0."""
    with redis.Redis.from_url(store) as client:
        client.flushdb()
    with connected(database) as engine, engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(delete(Row))
        connection.execute(insert(Row), [{"id": i, "n": 0} for i in range(ROWS)])


def _is_stale(count: Count) -> bool:
    return bool(count.stale_visible or count.stale_acknowledged or count.left)


def _show(counts: dict[tuple[str, str], Count]) -> None:
    title = f"Stale reads: {READERS} readers, {WRITERS} writers, {DEATH:.0%} of commits end with the writer killed"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("reads", "hits", "commits/s", "killed", "stale V", "stale A", "longest ms", "left at rest"):
        table.add_column(heading, justify="right")
    for mix in MIXES:
        table.add_section()
        table.add_row(f"[dim]{mix}[/]")
        for (name, its), count in counts.items():
            if its == mix:
                reads = count.reads or 1
                table.add_row(
                    f"[bold]{name}[/]" if name.startswith("perfkit") else name,
                    f"{count.reads:,}",
                    f"{1 - count.loads / reads:.0%}",
                    f"{count.commits / count.seconds:.0f}",
                    f"{count.deaths}",
                    *(f"{part:,} ({part / reads:.1%})" if part else "0" for part in (count.stale_visible,)),
                    *(f"{part:,} ({part / reads:.1%})" if part else "0" for part in (count.stale_acknowledged,)),
                    f"{count.longest_us / 1000:.1f}" if count.longest_us else "",
                    f"{count.left}",
                )
    Console(width=120).print(table)
