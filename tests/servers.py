"""Redis servers that a test may stop, kill, pause and start again; each dies with the test process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from perfkit.wire.sentinel import NAMED_FOR_S
from tools.services import Program

WITHIN_S = 30.0


class OwnRedis:
    """One server, on a port that stays its own over restarts. `options` go on its command line."""

    def __init__(self, program: Program, folder: Path, *options: str, config: Path | None = None) -> None:
        self.port = free_port()
        self.folder = folder
        self._config = [] if config is None else [str(config)]
        self._program, self._options = program, options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self, *, waits: bool = True) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            [str(self._program.executable), *self._config, *options, *self._options],
            env={**os.environ, **self._program.environment},
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG
        )
        if not waits:
            return
        with self.client() as client:
            until(lambda: _answers(client), f"Redis on port {self.port} did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)


class OwnCluster:
    """Three masters with a third of the slots each, and a replica for every one."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.nodes: list[OwnRedis] = []
        self._bus = free_port()
        for name in ("a", "b", "c", "x", "y", "z"):
            (folder / name).mkdir()
            bus = self._bus if name == "a" else free_port()
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(bus)]
            options += ["--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"]
            self.nodes.append(OwnRedis(program, folder / name, *options))
        self.masters, self.replicas = self.nodes[:3], self.nodes[3:]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.masters)
        self._join()

    def _join(self) -> None:
        third = 16_384 // 3 + 1
        for i, node in enumerate(self.masters):
            asked(node, "CLUSTER", "ADDSLOTSRANGE", i * third, min((i + 1) * third, 16_384) - 1)
        for i, node in enumerate(self.nodes):
            asked(node, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            asked(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._bus)
        until(lambda: all(len(self.known_by(node)) == 6 for node in self.nodes), "the nodes did not meet")
        for master, replica in zip(self.masters, self.replicas, strict=True):
            until(lambda m=master, r=replica: _replicates(r, self.id_of(m)), "a replica was not accepted")
        until(self.is_whole, "the cluster did not become whole")

    def is_whole(self) -> bool:
        """Every node that lives agrees that every slot is served, and every living replica follows its master."""
        return all(_state(node) == "ok" for node in self.nodes if node.process.poll() is None) and all(
            replica.client().info("replication").get("master_link_status") == "up"
            for replica in self.replicas
            if replica.process.poll() is None and replica.client().info("replication")["role"] == "slave"
        )

    def known_by(self, node: OwnRedis) -> Sequence[str]:
        return [line for line in _text(node, "CLUSTER", "NODES").splitlines() if "handshake" not in line]

    def id_of(self, node: OwnRedis) -> str:
        return _text(node, "CLUSTER", "MYID")

    def master_of(self, slot: int) -> OwnRedis:
        """Who has `slot` now, in the eyes of the first node that lives."""
        alive = next(node for node in self.nodes if node.process.poll() is None)
        for first, last, master, *_ in asked(alive, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise AssertionError(f"nobody has slot {slot}")

    def empty(self) -> None:
        for master in self.masters:
            asked(master, "FLUSHALL")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


class OwnSentinels:
    """A master with a replica, and three sentinels that look after them."""

    SERVICE = "bins"

    def __init__(self, program: Program, folder: Path, *, down_after_ms: int = 1000) -> None:
        for name in ("master", "replica"):
            (folder / name).mkdir()
        self.master = OwnRedis(program, folder / "master", "--repl-diskless-sync-delay", "0")
        follows = ["--replicaof", f"127.0.0.1 {self.master.port}"]
        self.replica = OwnRedis(program, folder / "replica", "--repl-diskless-sync-delay", "0", *follows)
        until(lambda: self.replica.client().info("replication")["master_link_status"] == "up")
        self.sentinels: list[OwnRedis] = []
        for name in ("p", "q", "r"):
            (folder / name).mkdir()
            config = folder / name / "sentinel.conf"
            watched = f"sentinel monitor {self.SERVICE} 127.0.0.1 {self.master.port} 2"
            after = f"sentinel down-after-milliseconds {self.SERVICE} {down_after_ms}"
            config.write_text(f"{watched}\n{after}\nsentinel failover-timeout {self.SERVICE} 3000\n")
            self.sentinels.append(OwnRedis(program, folder / name, "--sentinel", config=config))
        until(lambda: all(self._knows_all(each) for each in self.sentinels), "the sentinels did not meet")
        time.sleep(NAMED_FOR_S)  # before which nobody believes them
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.url = f"redis+sentinel://{places}/{self.SERVICE}"

    def _knows_all(self, sentinel: OwnRedis) -> bool:
        text = _text(sentinel, "INFO", "sentinel")
        return "slaves=1,sentinels=3" in text and "status=ok" in text

    def master_port(self) -> int:
        """Of the master, in the eyes of the first sentinel that lives."""
        alive = next(each for each in self.sentinels if each.process.poll() is None)
        return int(asked(alive, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)[1])

    def most_name(self, port: int) -> bool:
        """Whether more than half of the sentinels say that the master is at `port`."""
        asks = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE
        return sum(int(asked(each, *asks)[1]) == port for each in self.sentinels) > len(self.sentinels) / 2

    def kill(self) -> None:
        for each in (*self.sentinels, self.master, self.replica):
            each.go_on()
            each.kill()


class Proxy:
    """A port before a server. It may lead elsewhere, hold answers back, or cut a connection inside one."""

    def __init__(self, port: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        self.leads_to = port
        self.cut_after: int | None = None  # bytes of the answers from now on
        self.pause_s = 0.0  # before each byte of an answer
        self._forgotten: list[socket.socket] = []
        self.passes = threading.Event()
        self.passes.set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Pass nothing on over the connections that are open, and say nothing of it; new ones work."""
        self._forgotten += self._open

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.leads_to))
                except OSError:
                    client.close()
                    continue
                self._open += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        self._end(source, target)

    def _pass_back(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.passes.wait(WITHIN_S)
                if target in self._forgotten:
                    continue
                for byte in data if self.pause_s else b"":
                    time.sleep(self.pause_s)
                    target.sendall(bytes([byte]))
                if self.pause_s:
                    continue
                if self.cut_after is not None:
                    target.sendall(data[: self.cut_after])
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut_after = None
                        break
                else:
                    target.sendall(data)
        self._end(source, target)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def until(true: Callable[[], Any], otherwise: str = "it never came") -> None:
    """Ask again and again until `true()` says so; it may fail to answer meanwhile."""
    end = time.monotonic() + WITHIN_S
    while True:
        try:
            if true():
                return
        except (redis.RedisError, OSError):
            pass
        assert time.monotonic() < end, otherwise
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(client: redis.Redis) -> bool:
    return bool(client.ping())


def _state(node: OwnRedis) -> str:
    return str(dict(line.split(":") for line in _text(node, "CLUSTER", "INFO").split())["cluster_state"])


def _text(node: OwnRedis, *words: str) -> str:
    text: bytes = asked(node, *words)
    return text.decode()


def asked(node: OwnRedis, *words: str | int) -> Any:
    """The bare answer, before redis-py has made something of it."""
    connection = redis.Connection(port=node.port)
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


def _replicates(replica: OwnRedis, master_id: str) -> bool:
    return _text(replica, "CLUSTER", "REPLICATE", master_id) == "OK"
