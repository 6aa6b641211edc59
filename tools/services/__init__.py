"""Throw-away PostgreSQL with PostGIS, Redis and Valkey, for tests and for the demo.

    python -m tools.services                 where each is to be had (fetches what is missing)
    python -m tools.services run -- CMD      start them, run CMD with their URLs in its environment

    with services.running() as up:
        up.redis_url                         started by this first question; None if not to be had

A server is named by the environment, or started here for us alone, or reported as missing with the
way to get it. A server that merely runs on this machine is never touched. What is started here ends
with the process that started it, also when that process is killed (guard.py).
"""

from __future__ import annotations

from tools.services.kinds import Service
from tools.services.places import Missing, Named, Place, Program, locate
from tools.services.running import Running, Up, running
from tools.services.servers import CannotStart

__all__ = [
    "CannotStart",
    "Missing",
    "Named",
    "Place",
    "Program",
    "Running",
    "Service",
    "Up",
    "locate",
    "running",
]
