"""Every command of this repository, on a Python >= 3.11 with pip and nothing else.

    python3 noxfile.py -s demo          watch the example service get fast; keeps serving
    python3 noxfile.py -s tests         all tests, in several processes, on servers of their own
    python3 noxfile.py -s lint types docs
    python3 noxfile.py -s bench -- cache
    python3 noxfile.py -s proof         the protocol's model, the plans that take minutes
    python3 noxfile.py -s lock          resolve requirements/ again

Whatever follows `--` goes to the program that the session runs. With nox and uv installed,
`nox -s demo` is the same.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from tools import boot

    boot.nox(sys.argv[1:])

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import nox

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # nox reads this file by path

from tools import services  # noqa: E402 - found through the line above

EXAMPLE = HERE / "examples/wastemgmt"
PYTHON_FOLDERS = ("src", "examples", "tools", "tests", "benchmarks", "docs", "noxfile.py", "conftest.py")
TYPED = ("src", "examples/wastemgmt/wastemgmt", "tools", "benchmarks", "tests/typing", "noxfile.py", "conftest.py")
GROUPS = ("boot", "demo", "test", "types", "lint", "docs", "bench")
FUZZED = ("cache", "batching", "paging")
WITHOUT_PROJECT = ("boot", "lint")
WORKERS = max(3, os.cpu_count() or 1)  # many tests wait for servers: on two cores three are quicker than two

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"  # `_install` makes a reused one equal to its pins
nox.options.sessions = ["lint", "types", "tests", "docs"]

os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # a machine behind a proxy that inspects has its own
if not os.access(Path.home(), os.W_OK):  # such as that of the user nobody
    os.environ.setdefault("UV_CACHE_DIR", str(HERE / ".nox/uv-cache"))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example service before and after perfkit; `-- --postgres` for PostGIS and Redis."""
    _install(session, "demo")
    options = [option for option in session.posargs if option != "--postgres"]
    with services.running() as up:
        urls = _named_for_the_service(session, up) if "--postgres" in session.posargs else {}
        session.run("python", "-m", "wastemgmt", "demo", *options, env=urls)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test, in several processes; or as `-- …` says to pytest, in one."""
    _install(session, "test")
    # each process has servers of its own; one that is named would be shared, and tests empty it
    shared = any(service.variable in os.environ for service in (services.Service.REDIS, services.Service.VALKEY))
    spread = () if shared else ("-n", str(WORKERS), "--dist", "worksteal")
    session.run("python", "-m", "pytest", *(session.posargs or spread))


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy --strict and with pyright."""
    _install(session, "types")
    typed = _with_code(TYPED)
    session.run("mypy", *typed)
    session.run("pyright", *typed)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    _install(session, "lint")
    code = _with_code(PYTHON_FOLDERS)
    session.run("ruff", "check", "--output-format=concise", *session.posargs, *code)
    session.run("ruff", "format", "--check", *code)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html; a warning is an error."""
    _install(session, "docs")
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")
    session.log(f"read {HERE / 'docs/_build/html/index.html'}")


@nox.session
def proof(session: nox.Session) -> None:
    """Explore the large plans of the protocol's model; the tests explore the small ones."""
    _install(session, "test")
    session.run("python", "-m", "tests.protocol.large")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Judge a million hostile cache entries, run 10,000 programs with and without auto-batching, page 2,400 statements.

    `-- cache 5000`, `-- batching 5000` or `-- paging 5000` does one of them, that often.
    """
    _install(session, "test")
    name, *count = session.posargs or ("",)
    for each in FUZZED if name in ("", *FUZZED) else session.error(f"no {name}: one of {', '.join(FUZZED)}"):
        if name in ("", each):
            session.run("python", "-m", f"tests.{each}.fuzz", *count)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks that `-- …` names."""
    _install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Resolve every group anew; `-- --upgrade` takes newer versions too."""
    for group in GROUPS:
        project = () if group in WITHOUT_PROJECT else ("pyproject.toml", "--all-extras")
        session.run(
            *("uv", "pip", "compile", *project, "--group", f"pyproject.toml:{group}"),
            *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"),
            *("--quiet", "--output-file", f"requirements/{group}.txt", *session.posargs),
            env=_index(),
        )


def _named_for_the_service(session: nox.Session, up: services.Running) -> dict[str, str]:
    """PostgreSQL and Redis, started now, under the names by which the example service reads them."""
    names = {
        services.Service.POSTGRES: "WASTEMGMT_DEMO_DATABASE_URL",
        services.Service.REDIS: "WASTEMGMT_DEMO_CACHE_URL",
    }
    answers = {name: up.ask(service) for service, name in names.items()}
    missing = [str(answer) for answer in answers.values() if isinstance(answer, services.Missing)]
    if missing:
        session.error(*missing)
    return {name: answer.url for name, answer in answers.items() if isinstance(answer, services.Up)}


def _install(session: nox.Session, group: str) -> None:
    """Make the session's environment what requirements/{group}.txt says, with our own code as it is in this clone."""
    session.env["PYTHONPATH"] = None  # nox itself was found through it
    # Where none may be written beside the source, every process of the tests would compile all that it imports.
    session.env.update(PYTHONDONTWRITEBYTECODE=None, PYTHONPYCACHEPREFIX=str(HERE / ".nox/bytecode"))
    pins = HERE / f"requirements/{group}.txt"
    ours = () if group in WITHOUT_PROJECT else (HERE, EXAMPLE)
    sources = [pins, *(path / "pyproject.toml" for path in ours)]
    wanted = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = Path(session.virtualenv.location) / "installed.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    environment = _index()
    session.run_install("uv", "pip", "sync", "--quiet", "--require-hashes", pins, env=environment)
    if ours:
        editable = [part for path in ours for part in ("-e", str(path))]
        session.install("--quiet", "--no-deps", "--no-build-isolation", *editable, env=environment)
    stamp.write_text(wanted)


def _with_code(paths: Iterable[str]) -> list[str]:
    """Files, and folders that hold any: mypy refuses an empty one."""
    return [path for path in paths if (HERE / path).is_file() or any((HERE / path).rglob("*.py"))]


def _index() -> dict[str, str]:
    """Where pip takes packages from, for uv, unless uv was told otherwise: pip's settings are the ones people have."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    urls = [line.partition("=")[2].strip("'\"") for line in told.stdout.splitlines() if ".index-url=" in line]
    return {"UV_DEFAULT_INDEX": urls[-1]} if urls and "UV_DEFAULT_INDEX" not in os.environ else {}
