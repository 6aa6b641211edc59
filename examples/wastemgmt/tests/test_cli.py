"""The command line, as somebody meets it who has set something wrongly."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from wastemgmt.cli import app


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command on a database file of the test's own; `wrong` is for the environment."""
    monkeypatch.setenv("WASTEMGMT_DATABASE_URL", f"sqlite:///{tmp_path}/cli.sqlite3")

    def run(*arguments, **wrong):
        return CliRunner().invoke(app, list(arguments), env={f"WASTEMGMT_{name}": text for name, text in wrong.items()})

    return run


def test_a_database_is_migrated_seeded_once_and_emptied(run):
    """A second city is not put on top of the first."""
    assert run("migrate").exit_code == 0
    assert "10,563 bins" in run("seed").output

    again = run("seed")

    assert (again.exit_code, "--reset" in again.output) == (1, True)
    assert run("migrate", "--down", "--to", "base").exit_code == 0


@pytest.mark.parametrize(
    ("command", "wrong", "said"),
    [
        (["seed"], {}, "run `wastemgmt migrate` first"),
        (["migrate", "--to", "nowhere"], {}, "nowhere"),
        (["migrate"], {"DATABASE_URL": "helsinki"}, "WASTEMGMT_DATABASE_URL is not a URL"),
        (
            ["migrate"],
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "WASTEMGMT_DATABASE_URL cannot be used: ",
        ),
        (
            ["seed"],
            {"DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none"},
            "WASTEMGMT_DATABASE_URL cannot be used: ",
        ),
        (["serve"], {"PORT": "many"}, "WASTEMGMT_PORT: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run, command, wrong, said):
    """Status 1 and no traceback."""
    failed = run(*command, **wrong)

    assert (failed.exit_code, type(failed.exception)) == (1, SystemExit), failed.output
    assert said in failed.output
    assert failed.output.startswith(f"{command[0]}: ")
