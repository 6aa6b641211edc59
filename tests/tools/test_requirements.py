"""What this repository installs is pinned by hash and names no registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "requirements").glob("*.txt"))
PIN = re.compile(r"[a-z0-9][a-z0-9._-]*(\[[a-z,]+\])?==[^ ]+( ; .+)?(\n    --hash=sha256:[0-9a-f]{64})+")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_line_is_a_package_with_its_hashes(file):
    """No address, no index, no path, no package without a hash."""
    entries = re.sub(r" \\$", "", file.read_text(), flags=re.MULTILINE).replace("\n    --", "\0").splitlines()

    strange = [entry for entry in entries if not PIN.fullmatch(entry.replace("\0", "\n    --"))]

    assert entries
    assert strange == []


def test_every_group_that_a_session_installs_has_a_file():
    """`python3 noxfile.py -s lock` writes them."""
    groups = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"])
    ingredients = {"build", "service", "services"}

    assert {file.stem for file in FILES} == groups - ingredients
