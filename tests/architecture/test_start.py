"""What a process pays for that imports perfkit."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["perfkit", "perfkit.cache"])
def test_only_who_connects_to_a_server_imports_its_client(module: str):
    """Half of what redis-py imports is for commands and modules of Redis that nobody asked for."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print('redis' in sys.modules, 'msgpack' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert loaded.stdout.split() == ["False", "True"]
