"""Learned profiles: what is counted, when it is applied, what is withheld, and what a file may be."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    Session,
    aliased,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectinload,
    sessionmaker,
    subqueryload,
    with_polymorphic,
)

from perfkit.errors import ProfileError, ProfileFileError
from perfkit.loading import LearnedProfiles, Rules, UnreadableProfiles
from perfkit.loading.evidence import Place, Seen, Usage
from perfkit.loading.keeping import read, write
from tests.loading.fleet import Base, Bin, Collection, Customer, Fleet, GlassBin, Organization, User

Learn = Callable[..., LearnedProfiles]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "profiles.json"


@pytest.fixture
def learn(file: Path) -> Iterator[Learn]:
    """Makes profiles that watch, and nothing is withheld by chance."""
    made: list[LearnedProfiles] = []

    def begin(mode: Any = "on", *, withhold: float = 0.0, chance: Callable[[], float] = lambda: 0.0, **rules: Any):
        profiles = LearnedProfiles(file, mode=mode, rules=Rules(withhold=withhold, **rules), chance=chance)
        profiles.watch()
        made.append(profiles)
        return profiles

    yield begin
    for each in made:
        each.close()


def paths(file: Path) -> dict[str, dict[str, Seen]]:
    """What a file says: by entity and function, by path."""
    return {
        f"{place.entity.rpartition(':')[2]} {place.function.rpartition(':')[2]}": {
            ".".join(path): seen for path, seen in usage.paths.items()
        }
        for place, usage in read(file).items()
    }


def organizations(session: Session, *options: Any) -> list[str]:
    """Six bins, their customers, and the customers' organizations: thirteen statements."""
    found = session.scalars(select(Bin).order_by(Bin.id).options(lazyload(Bin.created_by), *options))
    return [each.customer.organization.name for each in found]


def plain_organizations(session: Session) -> list[str]:
    """The same, and the statement has no options at all."""
    return [each.organization.name for each in session.scalars(select(Customer).order_by(Customer.id))]


def counts(fleet: Fleet, function: Callable[..., Any], times: int, *given: Any) -> list[int]:
    """Statements of each run, in a session of its own."""
    found = []
    for _ in range(times):
        with fleet.session() as session:
            function(session, *given)
        found.append(fleet.count)
    return found


def test_the_fourth_run_is_eager(fleet: Fleet, learn: Learn):
    """After three in which the paths were used; the chain is a statement for each step."""
    learn()

    assert counts(fleet, organizations, 5) == [13, 13, 13, 3, 3]


def test_the_result_is_the_same(fleet: Fleet, learn: Learn):
    """Eager or lazy."""
    learn()

    found = []
    for _ in range(5):
        with fleet.session() as session:
            found.append(organizations(session))

    assert found == [[f"organization {number}" for number in range(6)]] * 5


def test_collections_are_loaded_by_one_statement(fleet: Fleet, learn: Learn):
    """No row of the first is repeated, also where two collections are learned."""
    learn()

    def bins_and_tags(session: Session) -> None:
        for each in session.scalars(select(Customer)):
            for bin_ in each.bins:
                assert bin_.customer is each
                _ = list(bin_.tags), list(bin_.collections)

    assert counts(fleet, bins_and_tags, 4) == [19, 19, 19, 4]


def test_a_path_that_is_used_in_less_than_half_of_the_runs_is_left_lazy(fleet: Fleet, learn: Learn):
    """It would cost more than it saves."""
    learn()

    def now_and_then(session: Session, is_used: bool) -> None:
        found = session.scalars(select(Customer)).all()
        if is_used:
            _ = [each.organization for each in found]

    used = [True, False, False, False, True, False, True]
    assert [counts(fleet, now_and_then, 1, each)[0] for each in used] == [7, 1, 1, 1, 7, 1, 7]


def test_functions_are_told_apart_and_so_are_their_callers(fleet: Fleet, learn: Learn, file: Path):
    """One helper serves two screens, and each has its own profile."""
    profiles = learn()

    def customers(session: Session) -> list[Customer]:
        return list(session.scalars(select(Customer)))

    def screen(session: Session) -> None:
        _ = [each.organization for each in customers(session)]

    def report(session: Session) -> None:
        customers(session)

    assert counts(fleet, screen, 4) == [7, 7, 7, 2]
    assert counts(fleet, report, 4) == [1, 1, 1, 1]
    profiles.save()
    places = list(read(file))
    assert [place.function.rpartition(".")[2] for place in places] == ["customers", "customers"]
    assert len({place.callers for place in places}) == 2


def test_a_comprehension_is_the_function_it_stands_in(fleet: Fleet, learn: Learn, file: Path):
    """On every version of Python."""
    profiles = learn()

    def nested(session: Session) -> None:
        for _ in [session.scalars(select(Customer)).all() for _ in range(1)]:
            pass

    counts(fleet, nested, 1)
    profiles.save()

    (place,) = read(file)
    assert place.entity == "tests.loading.fleet:Customer"
    assert place.function.endswith("test_learned:test_a_comprehension_is_the_function_it_stands_in.<locals>.nested")


def test_suggest_changes_no_statement(fleet: Fleet, learn: Learn, file: Path):
    """It learns what it would do."""
    profiles = learn("suggest")

    assert counts(fleet, plain_organizations, 5) == [7] * 5
    profiles.save()
    assert paths(file) == {
        "Customer plain_organizations": {"organization": Seen(used=5, loads=30)},
    }


def test_if_empty_leaves_statements_with_options_alone(fleet: Fleet, learn: Learn):
    """Whoever wrote options has thought of what to load."""
    learn("if_empty")

    assert counts(fleet, organizations, 4)[3] == 13
    assert counts(fleet, plain_organizations, 4)[3] == 2


@pytest.mark.parametrize(
    ("option", "statements"),
    [
        (joinedload(Bin.customer), 2),
        (selectinload(Bin.customer), 3),
        (selectinload(Bin.customer).selectinload(Customer.organization), 3),
        (lazyload(Bin.customer), 13),
        (lazyload("*"), 13),
    ],
)
def test_what_a_statement_says_wins_and_is_gone_further_from(fleet: Fleet, learn: Learn, option: Any, statements: int):
    """`on` adds to it."""
    learn()

    assert counts(fleet, organizations, 4, option)[3] == statements


def test_raiseload_still_raises(fleet: Fleet, learn: Learn):
    """What must not be loaded is not learned either."""
    learn()
    counts(fleet, organizations, 4)

    with fleet.session() as session, pytest.raises(Exception, match="raise"):
        organizations(session, raiseload(Bin.customer))


def test_a_statement_with_a_raiseload_is_left_alone(fleet: Fleet, learn: Learn):
    """What is loaded beside it would raise as well, where it did not before."""
    learn()

    counted = counts(fleet, organizations, 5, selectinload(Bin.collections).raiseload(Collection.bin))

    assert counted == [14] * 5


def test_a_path_behind_what_is_mapped_as_eager_is_learned(fleet: Fleet, learn: Learn):
    """`Bin.created_by` is joined by its mapping; what lies behind is a path like others."""
    learn()

    def tags(session: Session) -> None:
        for each in session.scalars(select(Bin).options(joinedload(Bin.customer))):
            _ = each.customer.organization

    assert counts(fleet, tags, 4) == [7, 7, 7, 2]


def test_what_only_a_subclass_has_is_left_lazy(fleet: Fleet, learn: Learn):
    """It is counted; an option for it would be an error for the others."""
    learn()

    def melters(session: Session) -> list[Any]:
        found = session.scalars(select(Bin))
        return [each.melter.name for each in found if isinstance(each, GlassBin)]

    first, *others = counts(fleet, melters, 5)
    assert others == [first] * 4


def test_an_alias_learns_for_its_entity(fleet: Fleet, learn: Learn):
    """And is served by what was learned."""
    learn()

    def aliases(session: Session) -> None:
        for each in session.scalars(select(aliased(Customer))):
            _ = each.organization

    assert counts(fleet, aliases, 4) == [7, 7, 7, 2]


def test_several_entities_of_one_statement_learn_each_for_itself(fleet: Fleet, learn: Learn, file: Path):
    """The path begins at the one that it is of."""
    profiles = learn()

    def pairs(session: Session) -> None:
        statement = select(Customer, User).join(User, User.id == Customer.created_by_id)
        for customer, _ in session.execute(statement):
            _ = customer.organization

    assert counts(fleet, pairs, 4) == [7, 7, 7, 2]
    profiles.save()
    assert paths(file)["User test_several_entities_of_one_statement_learn_each_for_itself.<locals>.pairs"] == {}


def test_objects_that_expired_still_tell_which_query_loaded_them(fleet: Fleet, learn: Learn, file: Path):
    """A refresh gives them a run of its own."""
    profiles = learn("suggest")

    def after_commit(session: Session) -> None:
        found = session.scalars(select(Customer)).all()
        session.commit()
        _ = [each.organization.created_by for each in found]

    counts(fleet, after_commit, 1)
    profiles.save()
    (seen,) = paths(file).values()
    assert {path: each.loads for path, each in seen.items()} == {"organization": 6, "organization.created_by": 3}


def test_objects_of_lazy_and_of_eager_loads_lead_back_to_the_query(fleet: Fleet, learn: Learn, file: Path):
    """However they came, and with options behind them or without."""
    profiles = learn("suggest")

    def mixed(session: Session) -> None:
        option = selectinload(Customer.bins).lazyload(Bin.customer).selectinload(Customer.organization)
        for each in session.scalars(select(Customer).options(option)):
            for bin_ in each.bins:
                _ = bin_.created_by, list(bin_.tags), [tag.name for tag in bin_.tags]
                _ = bin_.customer.organization.created_by

    counts(fleet, mixed, 1)
    profiles.save()
    (seen,) = paths(file).values()
    assert set(seen) == {"bins[].tags[]", "organization", "organization.created_by"}


def test_a_withheld_path_that_is_used_stays(fleet: Fleet, learn: Learn, file: Path):
    """A miss costs what it cost before."""
    chances = iter([0.0, 0.0, *[1.0] * 20])
    profiles = learn(withhold=0.5, chance=lambda: next(chances))

    assert counts(fleet, plain_organizations, 5) == [7, 7, 7, 7, 2]
    profiles.save()
    assert paths(file)["Customer plain_organizations"]["organization"] == Seen(used=4, loads=24, eager=1)


def test_what_nobody_misses_twenty_times_is_forgotten(fleet: Fleet, learn: Learn, file: Path):
    """Without a hook on reads: an eager load that nobody uses shows when it is not there."""

    def customers(session: Session, is_used: bool) -> None:
        found = session.scalars(select(Customer)).all()
        if is_used:
            _ = [each.organization for each in found]

    profiles = learn()
    counts(fleet, customers, 3, True)
    profiles.close()
    file.write_text(file.read_text().replace('"runs": 3', '"runs": 800').replace('"used": 3', '"used": 800'))

    profiles = learn(withhold=1.0)
    assert counts(fleet, customers, 19, False) == [1] * 19
    profiles.save()
    assert [each["organization"].withheld for each in paths(file).values()] == [19]
    counts(fleet, customers, 3, False)
    profiles.save()
    assert list(paths(file).values()) == [{}]


@pytest.mark.filterwarnings("ignore:coroutine 'Connection.cursor' was never awaited")
async def test_what_raised_missing_greenlet_is_eager_the_next_time(learn: Learn, file: Path):
    """The error is seen once, and nothing is withheld, as a miss would be an error again."""
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        for number in range(3):
            organization = Organization(name=f"organization {number}")
            session.add(Customer(name="customer", organization=organization))
        await session.commit()
    profiles = learn(withhold=1.0)

    async def names(session: AsyncSession) -> list[str]:
        return [each.organization.name for each in await session.scalars(select(Customer).order_by(Customer.id))]

    async with AsyncSession(engine) as session:
        with pytest.raises(StatementError, match="MissingGreenlet"):
            await names(session)
    gc.collect()
    for _ in range(3):
        async with AsyncSession(engine) as session:
            assert await names(session) == [f"organization {number}" for number in range(3)]

    profiles.save()
    (seen,) = paths(file).values()
    assert seen["organization"] == Seen(used=1, loads=1, eager=3, failed=1)
    await engine.dispose()


def test_a_statement_gets_no_more_paths_than_the_rules_allow(fleet: Fleet, learn: Learn):
    """The most used ones."""
    learn(paths=2)

    def three(session: Session) -> None:
        for each in session.scalars(select(Bin).options(lazyload(Bin.created_by))):
            _ = each.customer, list(each.tags), list(each.collections)

    assert counts(fleet, three, 4) == [19, 19, 19, 9]


def walk(found: Bin | None) -> Any:
    assert found is not None
    return found.id, found.customer.organization.name, [each.name for each in found.tags], found.created_by.name


BINS = select(Bin).order_by(Bin.id)
EVERY = with_polymorphic(Bin, [GlassBin])
STATEMENTS: dict[str, Any] = {
    "yield_per": BINS.execution_options(yield_per=3),
    "populate_existing": BINS.execution_options(populate_existing=True),
    "from_statement": select(Bin).from_statement(text("SELECT * FROM bins ORDER BY id")),
    "for_update": BINS.with_for_update(),
    "joined": BINS.options(joinedload(Bin.collections)),
    "subquery": BINS.options(subqueryload(Bin.collections)),
    "polymorphic": select(EVERY).order_by(EVERY.id),
    "subclass": select(GlassBin).order_by(GlassBin.id),
    "distinct": BINS.join(Bin.collections).distinct(),
    "some columns": BINS.options(load_only(Bin.name)),
}
ODD: dict[str, Callable[[Session], Any]] = {
    "get": lambda session: walk(session.get(Bin, 2)),
    "legacy query": lambda session: [walk(each) for each in session.query(Bin).order_by(Bin.id)],
    "merge": lambda session: walk(session.merge(Bin(id=3, name="other", kind="plain"))),
    "returning": lambda session: len(session.scalars(update(Bin).values(lon=1).returning(Bin)).all()),
    "columns": lambda session: [tuple(each) for each in session.execute(select(Bin.id, func.count()).group_by(Bin.id))],
}


@pytest.mark.parametrize("kind", [*STATEMENTS, *ODD])
@pytest.mark.parametrize("withhold", [0.0, 1.0])
def test_whatever_the_statement_the_result_stays(fleet: Fleet, learn: Learn, kind: str, withhold: float):
    """And never takes more statements than before."""
    found = []
    learn(withhold=withhold)

    for _ in range(6):
        with fleet.session() as session, session.no_autoflush:
            if kind in ODD:
                found.append((ODD[kind](session), fleet.count))
            else:
                result = session.scalars(STATEMENTS[kind])
                seen = [walk(each) for each in (result.unique() if kind == "joined" else result)]
                found.append((seen, fleet.count))

    assert [result for result, _ in found] == [found[0][0]] * 6
    assert max(count for _, count in found) == found[0][1]


def test_only_the_sessions_given_are_watched(fleet: Fleet, file: Path):
    """A factory, for one."""
    factory = sessionmaker(fleet.engine)
    profiles = LearnedProfiles(file)
    profiles.watch(factory)

    with factory() as session:
        list(session.scalars(select(User)))
    with fleet.session() as session:
        list(session.scalars(select(Customer)))
    profiles.close()

    assert [place.entity for place in read(file)] == ["tests.loading.fleet:User"]


def test_closed_profiles_change_nothing_any_more(fleet: Fleet, learn: Learn):
    """Their listeners are gone."""
    profiles = learn()
    counts(fleet, plain_organizations, 3)
    profiles.close()

    assert counts(fleet, plain_organizations, 1) == [7]


def test_what_was_learned_is_there_after_a_restart(fleet: Fleet, learn: Learn):
    """Another process goes on from the file."""
    profiles = learn()
    counts(fleet, plain_organizations, 3)
    profiles.close()

    learn()
    assert counts(fleet, plain_organizations, 1) == [2]


def test_processes_that_share_a_file_add_to_it(fleet: Fleet, learn: Learn, file: Path):
    """None replaces what another has counted."""
    for _ in range(2):
        one, other = LearnedProfiles(file), LearnedProfiles(file)
        for each in (one, other):
            each.watch()
            counts(fleet, plain_organizations, 2)
            each._stop.pop()()
        one.close()
        other.close()

    (usage,) = read(file).values()
    assert (usage.runs, usage.paths[("organization",)]) == (8, Seen(used=8, loads=48))


def test_the_file_is_the_same_for_the_same_profiles(fleet: Fleet, learn: Learn, file: Path):
    """Sorted, and saved without a change."""
    profiles = learn()
    counts(fleet, organizations, 2)
    counts(fleet, plain_organizations, 2)
    profiles.save()
    before = file.read_text()

    profiles.save()
    write(file, dict(reversed(read(file).items())))

    assert file.read_text() == before
    assert before.index("Bin") < before.index("Customer")
    assert [each.name for each in file.parent.iterdir()] == ["profiles.json"]


def test_names_that_no_file_may_have_are_left_out(file: Path):
    """What is written can be read, whatever classes are called."""
    good = Place("shop:Bin", "shop:bins", "00")
    odd = Place("shop:Bin[int]", "shop:bins", "00")
    usage = Usage(3, {("customer",): Seen(used=3), ("a b",): Seen(used=3)})

    write(file, {good: usage, odd: usage})

    assert read(file) == {good: Usage(3, {("customer",): Seen(used=3)})}


GOOD = {
    "version": 1,
    "profiles": [
        {
            "entity": "shop.models:Bin",
            "function": "shop.pages:bins",
            "callers": "0a1b2c3d",
            "runs": 3,
            "paths": {"customer": {"used": 3, "loads": 9, "eager": 0, "withheld": 0, "failed": 0}},
        }
    ],
}


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("", "Expecting value"),
        ("[]", "no file of learned profiles"),
        ("\xff", "codec can't decode|Expecting value"),
        ("[" * 100_000, "recursion|Expecting"),
        (json.dumps({"version": 2, "profiles": []}), "of version 1"),
        (json.dumps(GOOD)[:-20], "delimiter|Expecting"),
        (json.dumps(GOOD).replace("shop.models:Bin", "os; import sys"), "entity is 'os; import sys'"),
        (json.dumps(GOOD).replace("shop.pages:bins", "a:b\\nimport os"), "function is"),
        (json.dumps(GOOD).replace("customer", "customer()"), r"'customer\(\)' is no path"),
        (json.dumps(GOOD).replace("9", "-9"), "-9 is no count"),
        (json.dumps(GOOD).replace("9", "true"), "True is no count"),
        (json.dumps(GOOD).replace("9", "1e300"), "is no count"),
        (json.dumps(GOOD).replace('"runs": 3, ', ""), "has not the keys"),
        (json.dumps(GOOD).replace('"loads": 9, ', ""), "has not the counts"),
    ],
)
def test_a_file_that_somebody_broke_is_a_warning_and_is_kept_beside(file: Path, broken: str, why: str):
    """The service starts; a command says the same as an error."""
    file.write_text(broken, encoding="latin-1")

    with pytest.raises(ProfileFileError, match=why):
        read(file)
    with pytest.warns(UnreadableProfiles, match=why):
        profiles = LearnedProfiles(file)
    profiles.save()

    assert read(file) == {}
    assert file.with_name("profiles.json.broken").read_text(encoding="latin-1") == broken


def test_a_path_that_the_models_have_no_more_is_not_applied(fleet: Fleet, learn: Learn, file: Path):
    """A file may be older than the code."""
    profiles = learn()
    counts(fleet, plain_organizations, 3)
    profiles.close()
    file.write_text(file.read_text().replace('"organization"', '"company"'))

    learn()
    assert counts(fleet, plain_organizations, 2) == [7, 7]


@pytest.mark.parametrize(
    "wrong", [{"runs": 0}, {"share": 2.0}, {"paths": -1}, {"withhold": -0.1}, {"unused": 1.5}], ids=str
)
def test_rules_that_cannot_work_are_refused(wrong: dict[str, Any]):
    """When they are made."""
    with pytest.raises(ProfileError, match=f"{next(iter(wrong))}="):
        Rules(**wrong)


def test_an_unknown_mode_is_refused(file: Path):
    """Before anything is read."""
    with pytest.raises(ProfileError, match="mode='always': must be 'suggest', 'if_empty' or 'on'"):
        LearnedProfiles(file, mode="always")  # type: ignore[arg-type]
