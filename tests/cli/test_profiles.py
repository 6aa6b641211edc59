"""`perfkit profiles show|diff|export|prune` on files that services have left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from perfkit.cli import app
from perfkit.loading.evidence import Place, Seen, Usage
from perfkit.loading.keeping import read, write
from tests.loading.fleet import Bin, Customer, Fleet

BINS = Place("tests.loading.fleet:Bin", "shop.pages:Bin.page", "00112233")
CUSTOMERS = Place("tests.loading.fleet:Customer", "shop.pages:customer_list", "44556677")
REPORT = Place("tests.loading.fleet:Customer", "shop.jobs:report", "44556677")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "profiles.json"
    write(
        found,
        {
            BINS: Usage(
                10,
                {
                    ("customer",): Seen(used=4, loads=40, eager=6),
                    ("customer", "organization"): Seen(used=10, loads=90),
                    ("tags[]",): Seen(used=1, loads=1),
                },
            ),
            CUSTOMERS: Usage(4, {("bins[]",): Seen(used=4, loads=20), ("bins[]", "collections[]"): Seen(used=4)}),
            REPORT: Usage(2, {("bins[]",): Seen(used=2, loads=9)}),
        },
    )
    return found


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["profiles", *map(str, arguments)])


def test_show_says_what_is_used_and_what_is_eager(file: Path):
    """By function; paths that are new or seldom used are told apart."""
    result = run("show", file)

    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["Bin", "in", "shop.pages:Bin.page", "00112233,", "10", "runs"] in lines
    assert ["customer", "eager", "used", "in", "100%", "of", "4", "40", "lazy", "loads"] in lines
    assert ["tags[]", "seldom", "used", "in", "10%", "of", "10", "1", "lazy", "load"] in lines
    assert ["bins[]", "new", "used", "in", "100%", "of", "2", "9", "lazy", "loads"] in lines
    assert lines[-1] == ["3", "functions,", "eager:", "4", "paths"]


def test_show_has_no_colours_when_nobody_sees_them(file: Path):
    """Piped into a file or another program."""
    command = [sys.executable, "-m", "perfkit", "profiles", "show", str(file)]

    found = subprocess.run(command, capture_output=True, check=True).stdout

    assert b"\x1b" not in found


def test_show_gives_json(file: Path):
    """The whole of it, and what follows from it."""
    (found,) = json.loads(run("show", file, "--function", "customer_list", "--json").stdout)

    assert found == {
        "entity": "tests.loading.fleet:Customer",
        "function": "shop.pages:customer_list",
        "callers": "44556677",
        "runs": 4,
        "paths": {
            "bins[]": {"used": 4, "loads": 20, "eager": 0, "withheld": 0, "failed": 0, "is": "eager"},
            "bins[].collections[]": {"used": 4, "loads": 0, "eager": 0, "withheld": 0, "failed": 0, "is": "eager"},
        },
    }


def test_diff_says_what_is_eager_in_one_file_only(file: Path):
    """And ends with 1, as `diff` does."""
    other = file.with_name("other.json")
    book = read(file)
    del book[BINS].paths["customer", "organization"]
    book[REPORT].runs = 3
    write(other, book)

    result = run("diff", file, other)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "- Bin in shop.pages:Bin.page  customer.organization",
        "+ Customer in shop.jobs:report  bins[]",
    ]
    assert [each["change"] for each in json.loads(run("diff", file, other, "--json").stdout)] == ["-", "+"]


def test_diff_of_the_same_ends_with_0(file: Path):
    """Counts may differ, if nothing follows from it."""
    result = run("diff", file, file)

    assert (result.exit_code, result.stdout) == (0, "no difference in what is loaded eagerly\n")


def test_export_prints_classes_that_compile_and_load(file: Path):
    """They are declared profiles from then on."""
    code = run("export", file, "--as-code").stdout
    names: dict[str, Any] = {}

    exec(compile(code, "profiles.py", "exec"), names)  # noqa: S102 - what users do with it

    fleet = Fleet()
    with fleet.session() as session:
        for each in session.scalars(names["BinOfPage"].apply(select(Bin))):
            _ = each.customer.organization.name
        assert fleet.count == 3
    with fleet.session() as session:
        for customer in session.scalars(names["CustomerOfCustomerList"].apply(select(Customer))):
            _ = [list(each.collections) for each in customer.bins]
        assert fleet.count == 3
    fleet.close()
    assert "report" not in code


def test_export_tells_entities_of_one_name_apart(file: Path):
    """And leaves out what cannot be imported."""
    seen = Usage(3, {("customer",): Seen(used=3)})
    places = [Place(f"{module}:Bin", "a:b", "") for module in ("one.models", "other.models")]
    write(file, {**dict.fromkeys(places, seen), Place("m:f.<locals>.Bin", "a:b", ""): seen})

    code = run("export", file, "--as-code").stdout

    compile(code, "profiles.py", "exec")
    assert "from one.models import Bin\nfrom other.models import Bin as Bin2\n" in code
    assert "class BinOfB(EagerProfile, entity=Bin):" in code
    assert "class BinOfB2(EagerProfile, entity=Bin2):" in code
    assert "# m:f.<locals>.Bin is made inside a function, and cannot be imported." in code


def test_export_of_nothing_is_a_module_of_nothing(file: Path):
    """It compiles as well."""
    write(file, {})

    compile(run("export", file, "--as-code").stdout, "profiles.py", "exec")


def test_prune_forgets_what_is_not_worth_loading(file: Path):
    """After enough runs; what is new stays."""
    result = run("prune", file)

    assert result.stdout.splitlines() == [
        "Bin in shop.pages:Bin.page  tags[]",
        "forgot 1 path, and 0 functions without any",
    ]
    assert set(read(file)[BINS].paths) == {("customer",), ("customer", "organization")}
    assert REPORT in read(file)


def test_a_dry_run_of_prune_leaves_the_file(file: Path):
    """It says the same."""
    before = file.read_bytes()

    result = run("prune", file, "--dry-run", "--json")

    assert [each["path"] for each in json.loads(result.stdout)["paths"]] == ["tags[]"]
    assert file.read_bytes() == before


@pytest.mark.parametrize("verb", [["show"], ["export", "--as-code"], ["prune"]])
def test_a_file_that_is_none_is_an_error_in_a_line(file: Path, verb: list[str]):
    """Not a stack; nor does a missing file count as an empty one."""
    missing = run(*verb, file.with_name("nothing.json"))
    file.write_text('{"version": 7}')
    broken = run(*verb, file)

    assert (missing.exit_code, broken.exit_code) == (2, 2)
    assert missing.stderr.endswith("nothing.json: cannot be read: there is no such file\n")
    assert broken.stderr.endswith("cannot be read: it is no file of learned profiles of version 1\n")


def test_what_a_file_holds_is_no_order_to_a_terminal(file: Path):
    """Names from outside are shown as text, brackets and all."""
    write(file, {BINS._replace(callers="00"): Usage(3, {("bins[]",): Seen(used=3)})})

    assert "bins[]" in run("show", file).stdout


def test_export_without_as_code_says_what_to_write(file: Path):
    """There may be other ways later."""
    result = run("export", file)

    assert result.exit_code == 2
    assert "--as-code" in result.stderr
