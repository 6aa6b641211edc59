"""Ignore rules and baselines: what is left out, and how one hears that it no longer has to be."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from perfkit.clock import FrozenClock
from perfkit.errors import BaselineError, LoadingDeclarationError, UnknownPath
from perfkit.loading import Baseline, Ignores, Kind, ignore
from tests.loading.findings import at, finding


class Base(DeclarativeBase): ...


class Organization(Base):
    __tablename__ = "organizations"
    id: Mapped[int] = mapped_column(primary_key=True)


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))
    organization: Mapped[Organization] = relationship()
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}


class Company(Customer):
    __tablename__ = "companies"
    id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))
    owner: Mapped[Organization] = relationship(foreign_keys="Company.owner_id")
    __mapper_args__ = {"polymorphic_identity": "company"}


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship()


Table("labels", Base.metadata, Column("bin_id", ForeignKey("bins.id")))


def left_by(rule, found, **options) -> bool:
    return bool(Ignores(rule, models=Base, **options).left([found]))


@pytest.mark.parametrize(
    ("path", "is_left"),
    [
        ("Bin.customer", False),
        ("Bin.*", False),
        ("*.customer", False),
        ("*", False),
        ("Bin.customer.organization", True),
        ("Customer.*", True),
    ],
)
def test_a_rule_leaves_out_its_path(path, is_left):
    """All of it, with `*` for anything in between."""
    assert left_by(ignore(path, reason="few"), finding("Bin.customer")) is is_left


@pytest.mark.parametrize(
    ("where", "is_left"),
    [
        ("app.jobs.*", False),
        ("app.jobs.clean.nightly", False),
        ("clean.nightly", False),
        ("app/jobs/*.py", False),
        ("/srv/shop/app/*", False),
        ("jobs.*.hourly", True),
        ("pp.jobs.*", True),
        ("app.job.*", True),
        ("clean.night", True),
        ("obs/*.py", True),
    ],
)
def test_a_rule_may_be_for_a_place(where, is_left):
    """Module and function with dots, or a path of files; from any folder on, and never from the middle of a name."""
    assert left_by(ignore("Bin.customer", at=where, reason="few"), finding()) is is_left


def test_the_place_of_a_finding_without_a_site_is_that_of_its_query():
    """As of one that is about the query itself; one that has neither is met by no place."""
    rule = ignore("Bin.customer", at="app.jobs.*", reason="few")

    assert not left_by(rule, finding(site=None))
    assert left_by(rule, finding(site=None, origin=None))


def test_a_function_inside_a_function_is_found_by_its_name():
    """Python writes `<locals>` between them."""
    rule = ignore("Bin.customer", at="clean.nightly.one", reason="few")

    assert not left_by(rule, finding(site=at(3, "nightly.<locals>.one")))


def test_a_rule_ends_on_its_day_and_says_so_once(caplog):
    """What it left out is a finding again, and whoever reads the log knows why."""
    clock = FrozenClock()
    tomorrow = (datetime.fromtimestamp(clock.wall_ms() / 1000, UTC) + timedelta(days=1)).date()
    rule = ignore("Bin.customer", until=tomorrow.isoformat(), reason="rewritten by then")
    ignores = Ignores(rule, models=Base, clock=clock)

    assert ignores.left([finding()]) == []
    clock.tick(24 * 3600)
    with caplog.at_level(logging.WARNING):
        assert ignores.left([finding()]) == [finding()]
        ignores.left([finding()])

    assert ignores.over == [rule]
    assert caplog.messages == [f"an ignore rule is over, and what it left out is still found: {rule}"]


def test_a_rule_that_met_nothing_is_known():
    """So that lists get shorter again."""
    used, unused = ignore("Bin.customer", reason="few"), ignore("Bin.note", reason="few")
    ignores = Ignores(used, unused, models=Base)

    ignores.left([finding()])

    assert (ignores.unused, ignores.over) == ([unused], [])


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_rule_needs_a_reason(reason):
    """One that nobody can explain is never removed."""
    with pytest.raises(LoadingDeclarationError, match="give a reason"):
        ignore("Bin.customer", reason=reason)


def test_a_rule_needs_a_date_that_is_one():
    """Otherwise it would never end."""
    with pytest.raises(LoadingDeclarationError, match="2027-01-31"):
        ignore("Bin.customer", until="next year", reason="few")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Bin.custmer", "'Bin.custmer': 'custmer' is no attribute of Bin; do you mean 'Bin.customer'?"),
        ("Bni.customer", "'Bni.customer': no class and no table is called 'Bni'; do you mean 'Bin.customer'?"),
        (
            "Bin.customer.organisation",
            "'Bin.customer.organisation': 'organisation' is no attribute of Bin.customer; do you mean 'Bin.c",
        ),
        ("Bin.note.length", "'Bin.note.length': 'length' is no attribute of Bin.note"),
        ("bin", "'bin': no class and no table is called 'bin'; do you mean 'bins'?"),
        ("Bin.cuts*", "'Bin.cuts*': 'cuts*' is no attribute of Bin"),
        ("Bin.*.organisation", "'Bin.*.organisation': 'organisation' is no attribute of Bin.*"),
    ],
)
def test_a_path_that_names_nothing_is_an_error(path, message):
    """Where the list is made, and with the nearest name that is there."""
    with pytest.raises(UnknownPath) as caught:
        Ignores(ignore(path, reason="few"), models=Base)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "path",
    ["Bin", "bins", "labels", "Bin.note", "Bin.customer.owner.id", "Bin.*.owner", "C*.owner", "*", "SELECT 1 FROM x"],
)
def test_a_path_may_name_whatever_a_finding_does(path):
    """Classes, tables, attributes of subclasses, wildcards, and a statement of which no table is known."""
    Ignores(ignore(path, reason="few"), models=Base)


@pytest.mark.parametrize("models", [Base, Base.registry, [Bin, Customer, Company, Organization]])
def test_models_are_a_base_a_registry_or_classes(models):
    """Whatever a project has at hand."""
    with pytest.raises(UnknownPath):
        Ignores(ignore("Bin.custmer", reason="few"), models=models)


@pytest.mark.parametrize(
    ("rules", "models", "message"),
    [
        (["Bin.customer"], Base, "give rules as ignore"),
        ([[ignore("Bin.customer", reason="few")]], Base, "give rules as ignore"),
        ([ignore("Bin.customer", reason="few")], Base.metadata, "give the declarative base"),
        ([ignore("Bin.customer", reason="few")], [int], "give the declarative base"),
    ],
)
def test_rules_and_models_of_another_kind_are_named(rules, models, message):
    """A path, a list of rules, a MetaData: they ended in an AttributeError of ours."""
    with pytest.raises(LoadingDeclarationError, match=message):
        Ignores(*rules, models=models)


def test_classes_of_one_name_are_all_meant():
    """Findings name them by it; a path is right if it is right for one of them."""

    class Other(DeclarativeBase): ...

    other = type("Bin", (Other,), {"__tablename__": "b", "id": mapped_column(primary_key=True, type_=Integer)})

    Ignores(ignore("Bin.customer", reason="few"), models=[Bin, other])
    Ignores(ignore("Bin.customer", reason="few"), models=[other, Bin])


def test_a_report_gets_what_is_left():
    """And is not called for nothing."""
    told = []
    report = Ignores(ignore("Bin.note", reason="few"), models=Base).then(told.append)

    report([finding("Bin.note")])
    report([finding("Bin.note"), finding()])

    assert told == [[finding()]]


# ---- baselines


def test_a_baseline_leaves_out_what_it_knows(tmp_path):
    """By kind, path and function: the line may have moved."""
    file = tmp_path / "known/baseline.json"
    before = Baseline()
    before.left([finding()])
    before.write(file, keep_unseen=False)

    after = Baseline.read(file)

    moved, other = finding(site=at(99), origin=at(90)), finding(kind=Kind.REPEATED)
    assert after.left([moved, other]) == [other]


def test_a_baseline_reads_well_in_a_diff(tmp_path):
    """Sorted, one to a line, without numbers of lines; the same findings give the same bytes."""
    file, again = tmp_path / "one.json", tmp_path / "two.json"
    for path, found in ((file, [finding("Bin.note"), finding()]), (again, [finding(site=at(7)), finding("Bin.note")])):
        made = Baseline()
        made.left(found)
        made.write(path, keep_unseen=False)

    assert file.read_bytes() == again.read_bytes()
    assert file.read_text().splitlines()[3:6] == [
        '  "known": [',
        '    "lazy_load:Bin.customer@nightly",',
        '    "lazy_load:Bin.note@nightly"',
    ]


def test_known_findings_that_are_gone_are_stale(tmp_path):
    """They go when the whole is written anew, and stay after a run of a part."""
    baseline = Baseline(["lazy_load:Bin.note@nightly"])
    baseline.left([finding()])
    part, whole = tmp_path / "part.json", tmp_path / "whole.json"

    baseline.write(part, keep_unseen=True)
    baseline.write(whole, keep_unseen=False)

    assert baseline.stale == ["lazy_load:Bin.note@nightly"]
    assert Baseline.read(part).known == {"lazy_load:Bin.note@nightly", finding().key}
    assert Baseline.read(whole).known == {finding().key}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"version": 1,\n "known": [', "is no JSON from line 2 on"),
        ("[]", 'is no baseline: it has no list "known"'),
        ('{"known": []}', "is of version None, and this perfkit reads 1"),
        ('{"known": [1], "version": 1}', '"known" is no list of texts'),
        (b"\xff\xfe", "cannot be read"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_is_no_baseline_is_named(tmp_path, text, wrong):
    """By its path and by what is wrong with it, as after a merge that went astray."""
    file = tmp_path / "baseline.json"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(BaselineError) as caught:
        Baseline.read(file)

    assert str(caught.value).startswith(f"{file}: {wrong}")
    assert caught.value.file == str(file)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """And no other beside it."""
    file = tmp_path / "baseline.json"
    Baseline().write(file, keep_unseen=False)
    before = file.read_text()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    made = Baseline()
    made.left([finding()])

    with pytest.raises(OSError, match="disk full"):
        made.write(file, keep_unseen=False)

    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_keeps_its_mode(tmp_path):
    """Others of a team may write it too."""
    file = tmp_path / "baseline.json"
    Baseline().write(file, keep_unseen=False)
    file.chmod(0o664)

    Baseline().write(file, keep_unseen=False)

    assert file.stat().st_mode & 0o777 == 0o664
    assert json.loads(file.read_text())["known"] == []
