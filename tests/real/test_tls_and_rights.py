"""Servers that speak TLS, and users that may do no more than they must."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache
from perfkit.cache import Reason
from tests.real.conftest import Base, Bin, Shop
from tests.servers import OwnRedis

RIGHTS = re.search(r"`(\+ping [^`]+)`", Path("docs/how-to/check-a-deployment.md").read_text())[1].split()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    places = folder / f"{name}.crt", folder / f"{name}.key"
    places[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    places[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return places


class TlsFront:
    """TLS in front of a server, as not all builds of Redis and Valkey have it themselves."""

    def __init__(self, port: int, crt: Path, key: Path) -> None:
        self._leads_to, self._context = port, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(crt, key)
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listening = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._context)
        self.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        listening.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # an aborted transport closes its socket in the next turns of the loop

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._leads_to)
        self._writers += [writer, inner_writer]
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer), return_exceptions=True)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    finally:
        target.close()


@pytest.fixture
def tls(own_redis: OwnRedis, tmp_path: Path) -> Iterator[dict[str, str]]:
    """URLs of a server that speaks TLS: by its own certificate, by another one, and without."""
    crt, key = certificate(tmp_path, "server")
    other, _ = certificate(tmp_path, "other")
    front = TlsFront(own_redis.port, crt, key)
    yield {
        "right": f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={crt}",
        "wrong": f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={other}",
        "none": f"redis://127.0.0.1:{front.port}/0",
    }
    front.close()


def test_a_server_that_speaks_tls_is_used(pg_url, tls):
    """By a certificate that is looked at."""
    shop = Shop(pg_url, tls["right"])
    shop.write("old")
    assert (shop.read(), shop.read(), shop.cache.stats().hits) == ("old", "old", 1)
    assert (shop.cache.stats().marked_commits, shop.cache.stats().unmarked_commits) == (1, 0)
    shop.close()


@pytest.mark.parametrize("url", ["wrong", "none"])
def test_a_server_that_is_not_who_it_should_be_is_a_bypass(pg_url, tls, url):
    """Another certificate; no TLS where there must be."""
    shop = Shop(pg_url, tls[url])
    shop.write("old")
    assert (shop.read(), shop.read(), shop.cache.stats().hits) == ("old", "old", 0)
    assert shop.cache.stats().unkept == {Reason.UNSETTLED: 2}
    shop.close()


def test_async_callers_speak_tls_too(pg_url, tls):
    """On an event loop."""
    shop = Shop(pg_url, tls["right"])
    shop.write("old")
    shop.close()
    engine = create_async_engine(pg_url.replace("postgresql:", "postgresql+psycopg:"))
    cache = Cache("later")

    @cache.query()
    async def name_of(session: AsyncSession, bin_id: int) -> str | None:
        return await session.scalar(select(Bin.name).where(Bin.id == bin_id))

    cache.connect(tls["right"])
    cache.watch(engine, Base.metadata)

    async def run() -> list[str | None]:
        found = []
        for _ in range(3):
            async with AsyncSession(engine) as session:
                found.append(await name_of(session, 1))
        await cache.aclose()
        await engine.dispose()
        return found

    assert asyncio.run(run()) == ["old"] * 3
    assert cache.stats().hits == 2


@pytest.mark.parametrize("is_on_one_namespace", [False, True])
def test_the_rights_that_the_docs_name_are_enough(pg_url, own_redis, is_on_one_namespace):
    """For everything that a cache does; on the keys of its namespace alone."""
    with own_redis.client() as client:
        keys = "~real:*" if is_on_one_namespace else "~*"
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", keys, *RIGHTS)
    shop = Shop(pg_url, own_redis.url.replace("://", "://app:secret@"), single_flight="cluster")

    @shop.cache.query(entities=True)
    def bins(session: Session) -> Any:
        return session.scalars(select(Bin)).all()

    shop.write("old")
    assert (shop.read(), shop.read()) == ("old", "old")
    for _ in range(2):
        with Session(shop.engine) as session:
            assert [found.name for found in bins(session)] == ["old"]
            assert len(shop.cache.get_many(session, Bin, [1, 2])) == 1
    with Session(shop.engine) as session:
        assert shop.cache.drop(bins, session)
    shop.cache.bump(Bin)
    shop.write("new")
    assert (shop.read(), shop.read()) == ("new", "new")
    stats = shop.cache.stats()
    assert (stats.unkept, stats.bypasses, stats.unmarked_commits, stats.unbumped_commits) == ({}, {}, 0, 0)
    with pytest.raises(redis.exceptions.NoPermissionError), own_redis.client(username="app", password="secret") as app:
        app.flushall()
    shop.close()
