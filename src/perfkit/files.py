"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where who saves last wins
    fcntl = None  # type: ignore[assignment]


def write_whole(file: Path, text: str) -> None:
    """Write all of `file` or nothing: who reads it, or stops us, finds the old text or the new one.

    It has the mode that it had; a new one has that of any new file.
    """
    name = file.parent / f".{file.name}.{secrets.token_hex(8)}"
    mode = file.stat().st_mode & 0o777 if file.exists() else None
    # the system takes the mask away by itself: to ask for it is to change it for all threads
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
            out.flush()
            os.fsync(descriptor)
        if mode is not None:
            name.chmod(mode)
        name.replace(file)
    except BaseException:
        with suppress(OSError):
            name.unlink()
        raise


@contextmanager
def alone_with(file: Path) -> Iterator[None]:
    """Inside, no other process or thread is in such a block for the same file: what was read may be written back.

    Held by a lock on the folder, which needs no file of its own and ends with its process. Where the system has no such
    locks, or the folder may not be read, nothing is held.
    """
    try:
        if fcntl is None:
            raise OSError("no locks")
        descriptor = os.open(file.parent, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
