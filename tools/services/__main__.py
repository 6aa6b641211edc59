"""`python -m tools.services`: see the package's docstring, or `--help`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run by path: `python tools/services`
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.services.kinds import Service
from tools.services.places import Missing, Program, locate, version_of
from tools.services.running import Up, running


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command line."""
    ours, command = _split(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    given = parser.parse_args(ours)
    if given.action == "run":
        if not command:
            parser.error("run needs a command: run [--only postgres,redis] -- CMD …")
        with running(may_fetch=given.fetch) as session:
            return run(command, [session.ask(service) for service in given.only], require=given.require)
    return show(as_json=given.json, require=given.require, may_fetch=given.fetch)


def show(*, as_json: bool, require: bool, may_fetch: bool) -> int:
    """Print where each service is to be had."""
    places = [locate(service, may_fetch=may_fetch) for service in Service]
    report = {
        place.service.value: {
            "found": not isinstance(place, Missing),
            "where": str(place),
            "version": version_of(place) if isinstance(place, Program) else "",
        }
        for place in places
    }
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        for name, facts in report.items():
            print(f"{name:<9}{'' if facts['found'] else 'MISSING '}{facts['where']} {facts['version']}".rstrip())
    return int(require and any(isinstance(place, Missing) for place in places))


def run(command: Sequence[str], answers: Sequence[Up | Missing], *, require: bool) -> int:
    """The exit status of `command`, run with the URL of every service that is up in its environment."""
    missing = [answer for answer in answers if isinstance(answer, Missing)]
    for answer in missing:
        print(f"services: MISSING {answer}", file=sys.stderr)
    if missing and require:
        return 1
    urls = {answer.service.variable: answer.url for answer in answers if isinstance(answer, Up)}
    return _passed_through(command, {**os.environ, **urls})


def _passed_through(command: Sequence[str], environment: dict[str, str]) -> int:
    """Ctrl-C reaches the command and us alike: the command decides what to do about it, we wait."""
    child = subprocess.Popen(command, env=environment)
    try:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.services", description="Throw-away servers.")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--require", action="store_true", help="fail if one is missing")
    parser.add_argument("--no-fetch", dest="fetch", action="store_false", help="do not download what is missing")
    actions = parser.add_subparsers(dest="action", metavar="run")
    runs = actions.add_parser("run", help="start them and run a command: run [--only a,b] -- CMD …")
    runs.add_argument("--only", type=_services, default=list(Service), help="such as postgres,redis")
    return parser


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What stands before the first `--`, and after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _services(text: str) -> list[Service]:
    return [Service(name) for name in text.split(",")]


if __name__ == "__main__":
    # `kill` should end us in order; the guards see to the servers if it ends us otherwise.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    raise SystemExit(main())
