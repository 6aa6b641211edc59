"""The service's cache: declared here, so that models may import it; connected in `database.py`."""

from __future__ import annotations

from datetime import timedelta

from perfkit import Cache, Policy

cache = Cache("wm", Policy(mode="strict", ttl=timedelta(minutes=15)))
