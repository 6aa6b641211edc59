"""The plans that take minutes: `python -m tests.protocol.large` prints how many states each has, and what is stale."""

from __future__ import annotations

import time

from tests.protocol.test_model import BESIDE, IN_ONE_PROCESS, LEASED, ROW, STRICT, TABLE, VALIDATED, WAITED_FOR, Plan

LARGE = {
    "three readers, three writers, any of them killed at any step": Plan(
        processes=(1, 1, 1), writers=3, deaths=3, ticks=2
    ),
    "three readers in one process, three writers": Plan(processes=(3,), writers=3),
    "three readers, two writers, cells read one by one, one killed": Plan(
        processes=(1, 1, 1), writers=2, names=(TABLE, ROW), split=True, deaths=1
    ),
    "two readers, two writers, every accident once": Plan(
        processes=(1, 1), writers=2, deaths=1, evictions=1, refusals=1, unknowns=1, losses=1, ticks=2
    ),
    "two readers, two writers, a promotion, one killed": Plan(
        processes=(1, 1), writers=2, syncs=1, returns=1, deaths=1, ticks=2
    ),
    "validated, two writers, one killed": Plan(processes=(2,), writers=2, deaths=1, ticks=2, evictions=1, **VALIDATED),
    "leased by three readers, two writers who wait": Plan(processes=(3,), writers=2, ticks=2, **WAITED_FOR),
    "leased, two writers who wait, one killed": Plan(processes=(2,), writers=2, deaths=1, ticks=4, **WAITED_FOR),
    "leased by three readers, nothing older than the lease": Plan(
        processes=(3,), writers=2, ticks=2, is_bounded=True, **LEASED
    ),
    "committed, two writers, a promotion: stale until bumped": Plan(**BESIDE, syncs=1, returns=1),
    "committed, two writers, most accidents once: stale until bumped": Plan(
        **BESIDE, refusals=1, evictions=1, losses=1, ticks=2
    ),
    "all in one process, three readers, two writers": Plan(processes=(3,), writers=2, **IN_ONE_PROCESS),
}


def main() -> None:
    """Explore all plans, the tests' own first."""
    for name, plan in {**STRICT, **LARGE}.items():
        began = time.perf_counter()
        explored = plan.explore()
        took_s = time.perf_counter() - began
        found = explored.stale or "nothing stale"
        print(f"{name:64} {explored.states:>10,} states {took_s:7.1f} s   {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
