"""Drive a service with planned requests, and note what came back.

Open: each request is sent when it is due, whether or not earlier ones have been answered, and its latency counts from
when it was due. A loop that waits for the answer before it sends the next would not see the queue that it causes.
Closed: so many clients send the same requests one after the other, as fast as they are answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from wastemgmt.load.plan import BINS, COLLECT, ROUTE_STATISTICS, STATISTICS, Planned, Turn

CLIENTS = 8


@dataclass(slots=True)
class Answers:
    """What came back so far. `stale` counts statistics that lacked a collection that was acknowledged before."""

    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    queries: int = 0
    statistics: int = 0
    remembered: int = 0
    errors: int = 0
    stale: int = 0

    def count(self) -> int:
        return sum(map(len, self.latencies_ms.values()))


class Driver:
    """Sends requests to one service. Owns the count of collections that were acknowledged, and where the reader is."""

    def __init__(self, client: httpx.AsyncClient, *, collections: int) -> None:
        self._client = client
        self._known = collections
        self._next: str | None = None

    async def open(self, plan: Sequence[Planned], tell: Callable[[Answers], None]) -> Answers:
        """Each when it is due."""
        answers = Answers()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for planned in plan:
                await asyncio.sleep(max(0.0, began + planned.due_s - time.perf_counter()))
                group.create_task(self._send(planned, began + planned.due_s, answers))
                tell(answers)
        tell(answers)
        return answers

    async def closed(self, plan: Sequence[Planned]) -> float:
        """Requests answered a second, with eight clients."""
        answers, left = Answers(), iter(plan)

        async def client() -> None:
            for planned in left:
                await self._send(planned, time.perf_counter(), answers)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
        return len(plan) / (time.perf_counter() - began)

    async def _send(self, planned: Planned, due: float, answers: Answers) -> None:
        known = self._known
        method = planned.kind.partition(" ")[0]
        try:
            response = await self._client.request(method, self._path(planned), json=planned.body)
        except httpx.HTTPError:
            answers.errors += 1
            return
        answers.latencies_ms[planned.kind].append((time.perf_counter() - due) * 1000)
        if response.is_error:
            answers.errors += 1
            return
        queries = int(response.headers["x-query-count"])
        answers.queries += queries
        if planned.kind == COLLECT:
            self._known += 1
        if planned.kind == BINS:
            self._next = response.json()["next"]
        if planned.kind in STATISTICS:
            answers.statistics += 1
            answers.remembered += queries == 0
        if planned.kind == ROUTE_STATISTICS and collections_in(response.json()) < known:
            answers.stale += 1

    def _path(self, planned: Planned) -> str:
        """The path, with the cursor of the page that follows the last one that was shown, as a reader would turn it."""
        if planned.turn is Turn.LAST:
            return f"{planned.path}&last=true"
        return f"{planned.path}&after={self._next}" if planned.turn is Turn.NEXT and self._next else planned.path


def collections_in(statistics: dict[str, list[dict[str, int]]]) -> int:
    """How many collections a route statistic knows of."""
    return sum(each["collections"] for each in statistics["collections"])
