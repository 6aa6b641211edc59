"""Addresses: the URLs that a cache connects to, and the servers they name.

    redis://user:password@host:6379/0      one server; rediss:// with TLS, unix:///path for a socket
    redis+cluster://host:6379,host:6380    a cluster, by any of its nodes; rediss+cluster:// with TLS

What follows `?` goes to redis-py, such as `ssl_ca_certs`.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import redis

from perfkit.errors import CacheDeclarationError

CLUSTER = "+cluster"


class Address(NamedTuple):
    """Where one server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Target(NamedTuple):
    """What a URL names: one server, or a cluster by some of its nodes (`seeds`).

    `name` is the URL without its secrets. `url` is one of redis-py's, for the first of them.
    """

    name: str
    url: str
    seeds: tuple[Address, ...]

    @property
    def is_cluster(self) -> bool:
        return bool(self.seeds)


def target_of(url: str) -> Target:
    """`url`, taken apart."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    name = urlunsplit((parts.scheme, hosts, parts.path, "", ""))
    if not parts.scheme.endswith(CLUSTER):
        return Target(name, url, ())
    seeds = tuple(_address(host) for host in hosts.split(","))
    first = f"{user}@{seeds[0]}" if user else str(seeds[0])
    path = "" if parts.path == "/" else parts.path
    return Target(name, urlunsplit((parts.scheme.removesuffix(CLUSTER), first, path, parts.query, "")), seeds)


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    return Address(parts.hostname, parts.port or 6379)


def check_url(url: str) -> None:
    """Returns when `url` is one that we can connect to.

    Raises:
        CacheDeclarationError: it is not.
    """
    try:
        target = target_of(url)
        pool = redis.ConnectionPool.from_url(target.url)
        options = _without_database(pool.connection_kwargs) if target.is_cluster else pool.connection_kwargs
        pool.connection_class(**options)  # opens nothing yet
    except (ValueError, TypeError) as wrong:
        place = "give memory://, redis://…, rediss://…, unix://… or redis+cluster://host:port,host:port"
        raise CacheDeclarationError(f"cannot connect to {url!r}: {wrong} ({place})") from None


def _without_database(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("db"):
        raise ValueError("a cluster has no numbered databases")
    return options
