"""nox and uv for a Python that has nothing but pip: fetched once, by hash, into .nox of this clone.

Standard library only, because this runs before anything is installed. `pip install --target` needs
neither the venv module nor the superuser, and a system that guards its packages (PEP 668) allows it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PINS = REPOSITORY / "requirements/boot.txt"
NEEDS = (3, 11)


def nox(arguments: Sequence[str]) -> None:
    """Become nox, run on this repository with `arguments`."""
    found = sys.version_info[:2]
    if found < NEEDS:
        raise SystemExit(f"Python {NEEDS[0]}.{NEEDS[1]} or newer, please; {sys.executable} is {found[0]}.{found[1]}.")
    tools = _fetched(REPOSITORY / f".nox/.boot-{found[0]}.{found[1]}")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tools),
        "PATH": os.pathsep.join([str(tools / "bin"), os.environ.get("PATH", os.defpath)]),
    }
    command = [sys.executable, "-m", "nox", "-f", str(REPOSITORY / "noxfile.py"), *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is what we want


def _fetched(folder: Path) -> Path:
    """`folder` with what the pins say in it; made anew when they change, and never half."""
    pinned = hashlib.sha256(PINS.read_bytes()).hexdigest()
    stamp = folder / "pins.sha256"
    if stamp.exists() and stamp.read_text() == pinned:
        return folder
    print(f"noxfile: fetching nox and uv into {folder} …", flush=True)
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--root-user-action=ignore", "--no-warn-script-location", "--only-binary=:all:"]
    if not os.access(Path.home(), os.W_OK):  # pip would warn about its cache
        pip.append("--no-cache-dir")
    done = subprocess.run([*pip, "--require-hashes", "-r", PINS, "--target", unfinished], check=False)
    if done.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise SystemExit(f"noxfile: pip could not fetch nox and uv (status {done.returncode}), see above.")
    (unfinished / stamp.name).write_text(pinned)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return folder
