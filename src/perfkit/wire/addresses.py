"""Addresses: the URLs that a cache connects to, and the servers they name.

    redis://user:password@host:6379/0      one server; rediss:// with TLS, unix:///path for a socket
    redis+cluster://host:6379,host:6380    a cluster, by any of its nodes; rediss+cluster:// with TLS
    redis+sentinel://host:26379,host:26379/mymaster?db=0
                                           the master of that name, which sentinels know; rediss+sentinel:// with TLS

What follows `?` goes to redis-py, such as `ssl_ca_certs`. User and password are those of the master; sentinels that
have some of their own are given `sentinel_username=` and `sentinel_password=`.
No message shows the part of a URL that may hold a password.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis

from perfkit.errors import CacheDeclarationError

CLUSTER, SENTINEL = "+cluster", "+sentinel"
SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
_PORTS = {CLUSTER: 6379, SENTINEL: 26379}
_LOGIN = ("sentinel_username", "sentinel_password")


class Address(NamedTuple):
    """Where one server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Target(NamedTuple):
    """What a URL names: one server; a cluster by some of its nodes (`seeds`); or a `service` that sentinels know.

    `name` is the URL without its secrets. `url` is one of redis-py's, for the first of them. `sentinel_login` is what
    a connection to a sentinel is given.
    """

    name: str
    url: str
    seeds: tuple[Address, ...]
    service: str = ""
    sentinel_login: tuple[tuple[str, str], ...] = ()

    @property
    def is_cluster(self) -> bool:
        return bool(self.seeds) and not self.service


def target_of(url: str) -> Target:
    """`url`, taken apart."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    name = urlunsplit((parts.scheme, hosts, parts.path, "", ""))
    kind = next((each for each in _PORTS if parts.scheme.endswith(each)), None)
    if kind is None:
        return Target(name, url, ())
    seeds = tuple(_address(host, _PORTS[kind]) for host in hosts.split(","))
    first = f"{user}@{seeds[0]}" if user else str(seeds[0])
    path, query = "" if parts.path == "/" else parts.path, parse_qsl(parts.query)
    service = ""
    login: tuple[tuple[str, str], ...] = ()
    if kind == SENTINEL:
        service, path = path.strip("/"), ""
        if not service:
            raise ValueError("it names no service: give redis+sentinel://host:26379/mymaster")
        login = tuple((each.removeprefix("sentinel_"), value) for each, value in query if each in _LOGIN)
        query = [(each, value) for each, value in query if each not in _LOGIN]
    plain = urlunsplit((parts.scheme.removesuffix(kind), first, path, urlencode(query), ""))
    return Target(name, plain, seeds, service, login)


def _address(text: str, port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    return Address(parts.hostname, parts.port or port)


def check_url(url: str) -> None:
    """Returns when `url` is one that we can connect to.

    Raises:
        CacheDeclarationError: it is not.
    """
    try:
        _check_parts(url)
        target = target_of(url)
        pool = redis.ConnectionPool.from_url(target.url)
        options = _without_database(pool.connection_kwargs) if target.is_cluster else pool.connection_kwargs
        pool.connection_class(**options)  # opens nothing yet
    except (ValueError, TypeError, redis.RedisError) as wrong:
        option = re.search(r"unexpected keyword argument '(\w+)'", str(wrong))
        scheme = url.partition("://")[0]
        why = f"redis-py has no option {option[1]!r} for {scheme}://" if option else str(wrong).rstrip(".")
        raise CacheDeclarationError(f"cannot connect to {_shown(url)!r}: {why}.") from None


def _check_parts(url: str) -> None:
    """What urllib and redis-py would take for something else.

    Raises:
        ValueError: what it is.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        raise ValueError("memory is inside each process, which connects to it by 'memory://'; nobody else can")
    if scheme.startswith("valkey"):
        raise ValueError("a Valkey has the URLs of Redis: give redis://…")
    if scheme not in SCHEMES:
        raise ValueError(
            "give memory://, redis://…, rediss://…, unix://…, redis+cluster://host:port,host:port "
            "or redis+sentinel://host:port,host:port/service"
        )
    parts = urlsplit(url)
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("it names no socket: give unix:///run/redis.sock")
        return
    if "@" in parts.path or "@" in parts.fragment:
        raise ValueError("what is '/', '?', '#' or '@' in a user or password must be quoted, as in %2F")
    database = "" if scheme.endswith(SENTINEL) else unquote(parts.path).strip("/")
    if database and not database.isdecimal():
        raise ValueError(f"its database is {database!r}, and must be a number")  # redis-py would take 0


def _shown(url: str) -> str:
    """As much of it as can hold no secret."""
    scheme, _, rest = url.rpartition("://")
    place, _, query = rest.partition("?")
    user, at, host = place.rpartition("@")
    start = f"{scheme}://" if scheme else ""
    if "@" in query and not at:
        return f"{start}…"
    return f"{start}…@{host}" if user else f"{start}{host}"


def _without_database(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("db"):
        raise ValueError("a cluster has no numbered databases")
    return options
