"""GeoAlchemy2's Geometry on plain SQLite: tables, rows, functions, reflection; blocking and awaited."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
import shapely
from alembic import autogenerate, command
from alembic.config import Config
from alembic.migration import MigrationContext
from geoalchemy2 import Geometry, WKBElement, WKTElement, alembic_helpers
from geoalchemy2.shape import from_shape, to_shape
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit.errors import GeometryError, SpatialError
from perfkit.spatial import distance_m, length_m, lite, point, within
from tests.spatial.models import Base, Bin, Route

STATION, KAMPPI = point(24.9414, 60.1719), point(24.9316, 60.1690)
BETWEEN_M = 632.7


@pytest.fixture
def engine(tmp_path):
    made = create_engine(f"sqlite:///{tmp_path / 'waste.db'}")
    lite.install(made)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as made:
        yield made


def scalar(session: Session, sql: str):
    return session.execute(text(f"SELECT {sql}")).scalar_one()


def test_every_way_to_give_a_geometry_is_stored_alike(session):
    """WKT, EWKT and WKB elements and EWKT text, by the ORM."""
    given = [
        WKTElement("POINT(24.9414 60.1719)", srid=4326),
        WKTElement("SRID=4326;POINT(24.9414 60.1719)", extended=True),
        from_shape(shapely.Point(24.9414, 60.1719), srid=4326),
        "SRID=4326;POINT(24.9414 60.1719)",
        "POINT(24.9414 60.1719)",
    ]
    session.add_all([Bin(location=location) for location in given])
    session.commit()

    stored = session.scalars(select(Bin.location)).all()

    assert {type(found) for found in stored} == {WKBElement}
    assert {(to_shape(found).wkt, found.srid) for found in stored} == {("POINT (24.9414 60.1719)", 4326)}


def test_a_geometry_is_moved_removed_and_deleted(session):
    """The R*Tree follows every write."""
    moving = Bin(location="SRID=4326;POINT(24.9414 60.1719)")
    session.add(moving)
    session.commit()

    def near(place):
        session.commit()
        return session.scalars(select(Bin.id).where(within(Bin.location, place, 50))).all()

    seen = [near(STATION)]
    moving.location = "SRID=4326;POINT(24.9316 60.1690)"
    seen += [near(STATION), near(KAMPPI)]
    moving.location = None
    seen += [near(KAMPPI)]
    moving.location = "SRID=4326;POINT(24.9316 60.1690)"
    session.flush()
    session.execute(text("UPDATE bins SET id = 77"))
    seen += [near(KAMPPI)]
    session.execute(text("DELETE FROM bins"))
    seen += [near(KAMPPI)]

    assert seen == [[1], [], [1], [], [77], []]


@pytest.mark.parametrize(
    ("kind", "location"),
    [("another kind", "SRID=4326;LINESTRING(1 1,2 2)"), ("another SRID", "SRID=3067;POINT(1 1)")],
)
def test_a_column_takes_its_kind_and_srid_only(session, kind, location):
    """As a typmod does on PostGIS."""
    session.add(Bin(location=location))

    with pytest.raises(IntegrityError, match=r"bins\.location takes POINT with SRID 4326 only"):
        session.flush()


async def test_the_same_on_aiosqlite():
    """Functions run in the thread that aiosqlite has for each connection."""
    engine = create_async_engine("sqlite+aiosqlite://")
    lite.install(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add(Bin(location="SRID=4326;POINT(24.9414 60.1719)"))
        await session.commit()

        far = distance_m(Bin.location, KAMPPI)
        rows = (await session.execute(select(Bin.location, far).where(within(Bin.location, KAMPPI, 1000)))).all()
        with pytest.raises(GeometryError, match="is no WKT"):
            await session.execute(select(func.ST_AsText(func.ST_GeomFromText("POINT(1"))))
    await engine.dispose()

    assert [(to_shape(location).wkt, round(metres, 1)) for location, metres in rows] == [
        ("POINT (24.9414 60.1719)", BETWEEN_M)
    ]


def test_tables_go_with_everything_beside_them(engine):
    """Dropping leaves nothing but the empty list of columns, and creating again works."""
    Base.metadata.drop_all(engine)
    with engine.connect() as connection:
        left = connection.execute(text("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")).scalars().all()
        assert (left, connection.execute(text("SELECT * FROM geometry_columns")).all()) == (["geometry_columns"], [])

    Base.metadata.create_all(engine)

    assert "idx_bins_location" in inspect(engine).get_table_names()


def test_reflection_sees_kind_srid_and_index(engine):
    """From `geometry_columns`."""
    reflected = Table("routes", MetaData(), autoload_with=engine)

    kind = reflected.c.path.type
    assert isinstance(kind, Geometry)
    assert (kind.geometry_type, kind.srid, kind.dimension, kind.spatial_index) == ("LINESTRING", 4326, 2, True)


def schema() -> MetaData:
    """A table of its own: creating one takes the index out of GeoAlchemy2's idea of the table."""
    made = MetaData()
    Table("yards", made, Column("id", Integer, primary_key=True), Column("spot", Geometry("POINT", 4326)))
    return made


def test_alembic_finds_nothing_to_do(engine):
    """With GeoAlchemy2's helpers, as its documentation has it."""
    Base.metadata.drop_all(engine)
    schema().create_all(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": alembic_helpers.include_object, "compare_type": True}
        )

        found = autogenerate.compare_metadata(context, schema())

    assert found == []


def test_alembic_creates_changes_and_removes_geometry(tmp_path):
    """A migration with a table, a geometry column added later, a table renamed, and the way back."""
    url = f"sqlite:///{tmp_path / 'migrated.db'}"
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(ENV)
    (scripts / "script.py.mako").write_text("")
    (scripts / "versions" / "one.py").write_text(ONE)
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", url)

    command.upgrade(config, "head")

    engine = create_engine(url)
    lite.install(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO depots (spot) VALUES (GeomFromEWKT('SRID=4326;POINT(24.9 60.1)'))"))
        columns = connection.execute(text("SELECT * FROM geometry_columns ORDER BY 1, 2")).all()
        indexed = connection.execute(text("SELECT count(*) FROM idx_depots_spot")).scalar_one()
    engine.dispose()
    assert (columns, indexed) == ([("depots", "spot", 1, 2, 4326, 1), ("depots", "way", 2, 2, 4326, 0)], 1)

    command.downgrade(config, "base")

    with sqlite3.connect(f"{tmp_path / 'migrated.db'}") as plain:
        left = plain.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'trigger') ORDER BY 1").fetchall()
    plain.close()
    assert left == [("alembic_version",), ("geometry_columns",)]


ENV = """
from alembic import context
from sqlalchemy import create_engine
from geoalchemy2 import alembic_helpers
from perfkit.spatial import lite

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
lite.install(engine)
with engine.connect() as connection:
    context.configure(connection=connection, include_object=alembic_helpers.include_object)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""

ONE = """
import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry

revision, down_revision = "one", None


def upgrade():
    op.create_table("yards", sa.Column("id", sa.Integer, primary_key=True), sa.Column("spot", Geometry("POINT", 4326)))
    op.add_geospatial_column("yards", sa.Column("way", Geometry("LINESTRING", 4326, dimension=2)))
    op.execute("SELECT RenameTable(NULL, 'yards', 'depots')")


def downgrade():
    op.execute("SELECT DropTable(NULL, 'depots')")
"""


def test_an_index_made_later_knows_the_rows_that_are_there(session):
    """For a table that had none, or had lost it."""
    session.add_all([Bin(location="SRID=4326;POINT(24.9414 60.1719)"), Bin(location=None)])
    session.commit()
    session.execute(select(func.DisableSpatialIndex("bins", "location")))
    session.execute(text("DROP TABLE idx_bins_location"))
    assert session.execute(select(func.CheckSpatialIndex("bins", "location"))).scalar_one() is None

    session.execute(select(func.CreateSpatialIndex("bins", "location")))

    assert session.scalars(select(Bin.id).where(within(Bin.location, STATION, 50))).all() == [1]


def test_a_table_of_any_name(engine):
    """Quotes, spaces and keywords, in the table and in the column."""
    odd = Table(
        'sel"ect', MetaData(), Column("id", Integer, primary_key=True), Column("or der", Geometry("POINT", 4326))
    )
    odd.create(engine)

    with engine.begin() as connection:
        connection.execute(odd.insert(), {"id": 5, "or der": "SRID=4326;POINT(24.9414 60.1719)"})
        found = connection.execute(select(odd.c.id).where(within(odd.c["or der"], STATION, 50))).scalars().all()
    assert found == [5]


POINT, LINE = (
    "ST_GeomFromEWKT('SRID=4326;POINT(24.9 60.1)')",
    "ST_GeomFromEWKT('SRID=4326;LINESTRING(24.9 60.1,25 60.2)')",
)
BOX = "ST_MakeEnvelope(24.8, 60, 24.95, 60.3, 4326)"

ANSWERS = [
    (f"ST_X({POINT})", 24.9),
    (f"ST_Y({POINT})", 60.1),
    (f"ST_XMax({LINE})", 25.0),
    (f"ST_AsText({POINT})", "POINT(24.9 60.1)"),
    (f"ST_AsEWKT({LINE})", "SRID=4326;LINESTRING(24.9 60.1,25 60.2)"),
    (f"ST_AsGeoJSON({POINT})", '{"type":"Point","coordinates":[24.9,60.1]}'),
    ("ST_AsGeoJSON(ST_Point(24.123456789012, 60, 4326), 3)", '{"type":"Point","coordinates":[24.123,60]}'),
    (f"ST_SRID({POINT})", 4326),
    (f"ST_GeometryType({LINE})", "ST_LineString"),
    (f"ST_NPoints({LINE})", 2),
    (f"ST_IsEmpty({LINE})", False),
    (f"ST_AsText(ST_EndPoint({LINE}))", "POINT(25 60.2)"),
    (f"ST_AsEWKT(ST_StartPoint({LINE}))", "SRID=4326;POINT(24.9 60.1)"),
    (f"ST_AsText(ST_Envelope({LINE}))", "POLYGON((24.9 60.1,24.9 60.2,25 60.2,25 60.1,24.9 60.1))"),
    (f"ST_Intersects({LINE}, {BOX})", True),
    (f"ST_Contains({BOX}, {POINT})", True),
    (f"ST_Within({POINT}, {BOX})", True),
    (f"ST_Covers({BOX}, {LINE})", False),
    (f"ST_Disjoint({LINE}, {POINT})", False),
    (f"ST_Equals({POINT}, ST_SetSRID(ST_MakePoint(24.9, 60.1), 4326))", True),
    (f"ST_AsText(ST_GeomFromWKB(ST_AsBinary({POINT}), 4326))", "POINT(24.9 60.1)"),
    (f"ST_AsEWKT(ST_GeomFromEWKB(ST_AsEWKB({POINT})))", "SRID=4326;POINT(24.9 60.1)"),
    ("ST_AsText(ST_GeomFromText('POINT Z (1 2 3)'))", "POINT Z (1 2 3)"),
    ("ST_AsText(ST_GeomFromText('MULTIPOINT(1 2, 3 4)'))", "MULTIPOINT((1 2),(3 4))"),
    ("ST_AsText(ST_GeomFromText('POINT EMPTY'))", "POINT EMPTY"),
    ("ST_X(ST_GeomFromText('POINT EMPTY'))", None),
    ("ST_XMin(ST_GeomFromText('POINT EMPTY'))", None),
    ("ST_AsText(ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 1,2 2))'))",
     "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 1,2 2))"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "answer"), ANSWERS, ids=[sql for sql, _ in ANSWERS])
def test_functions_answer_as_those_of_postgis(session, sql, answer):
    """test_postgis_agrees.py asks PostGIS the same."""
    assert scalar(session, sql) == answer


LITE_ONLY = [
    (f"GeomFromEWKT('SRID=4326;POINT(24.9 60.1)') = {POINT}", 1),
    (f"AsEWKB({POINT}) = {POINT}", 1),
    (f"hex(AsBinary({POINT}))", shapely.Point(24.9, 60.1).wkb_hex),
    ("ST_Distance(ST_GeomFromText('POINT EMPTY'), ST_MakePoint(1, 1))", None),
    ("ST_Distance(NULL, ST_MakePoint(1, 1))", None),
    ("ST_DWithin(ST_MakePoint(1, 1), NULL, 5)", None),
    ("ST_AsText(NULL)", None),
]


@pytest.mark.parametrize(("sql", "answer"), LITE_ONLY, ids=[sql for sql, _ in LITE_ONLY])
def test_functions_under_the_names_of_spatialite_and_of_nothing(session, sql, answer):
    """GeoAlchemy2 writes some names differently for SQLite; NULL in is NULL out."""
    assert scalar(session, sql) == answer


WRONG = [
    ("ST_GeomFromText('POINT(1')", "'POINT(1' is no WKT"),
    ("GeomFromEWKB(x'0102')", "2 bytes are no WKB"),
    ("ST_X(7)", "a geometry was expected, found 7"),
    ("ST_X(GeomFromText('LINESTRING(1 1,2 2)'))", "ST_X needs a point, found a LineString"),
    ("ST_Distance(ST_MakePoint(60, 124), ST_MakePoint(1, 1))", "latitude 124.0 is not on Earth: are they swapped?"),
    ("ST_Length(GeomFromText('LINESTRING(1 1,2 95)'))", "latitude 95.0 is not on Earth"),
    ("ST_DWithin(ST_MakePoint(1, 1), ST_MakePoint(1, 1), -1)", "a distance of -1 metres: it cannot be negative"),
    ("ST_Length(ST_SetSRID(GeomFromText('LINESTRING(1 1,2 2)'), 3067))", "this geometry has SRID 3067"),
    ("ST_Intersects(ST_MakePoint(1, 1), ST_Point(1, 1, 4326))", "two geometries with SRIDs 0 and 4326"),
    ("ST_MakePoint('east', 1)", "ValueError: could not convert string to float"),
    ("RecoverGeometryColumn('bins', 'location', 4326, 'BALL', 'XY')", "there is no geometry 'BALL'"),
    ("AddGeometryColumn('bins', 'other', 4326, 'POINT', 2, 1)", "SQLite cannot add a column that is NOT NULL"),
]


@pytest.mark.parametrize(("sql", "message"), WRONG, ids=[sql[:40] for sql, _ in WRONG])
def test_what_is_wrong_is_said(session, sql, message):
    """sqlite3 itself tells no more than that a function raised something."""
    with pytest.raises(SpatialError) as caught:
        scalar(session, sql)

    assert message in str(caught.value)


def test_an_error_of_sqlite_itself_stays_what_it_is(session):
    """Only errors of our functions are replaced, and each once."""
    with pytest.raises(GeometryError):
        scalar(session, "ST_X(7)")

    with pytest.raises(Exception, match="no such column"):
        scalar(session, "this_column")


def test_installing_twice_is_installing_once(engine):
    """Listeners do not pile up."""
    lite.install(engine)

    with engine.connect() as connection, pytest.raises(GeometryError):
        connection.execute(text("SELECT ST_X(7)"))


def test_a_factory_of_ones_own_is_kept():
    """A subclass of sqlite3.Connection given in connect_args."""

    class Mine(sqlite3.Connection):
        pass

    engine = create_engine("sqlite://", connect_args={"factory": Mine})
    lite.install(engine)

    with engine.connect() as connection:
        assert type(connection.connection.driver_connection) is Mine
        assert connection.execute(text("SELECT ST_X(ST_MakePoint(3, 4))")).scalar_one() == 3
    engine.dispose()


def test_only_sqlite_is_taken():
    """PostgreSQL has the real thing."""
    engine = Engine.__new__(Engine)
    engine.dialect = type("Dialect", (), {"name": "postgresql"})()

    with pytest.raises(SpatialError, match="this engine speaks postgresql"):
        lite.install(engine)


def test_without_shapely_the_command_to_run_is_said():
    """At the import, not at the first query."""
    program = "import sys; sys.modules['shapely'] = None; import perfkit.spatial; from perfkit.spatial import lite"

    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    last = ran.stderr.strip().splitlines()[-1]
    assert last == "perfkit.errors.MissingExtra: perfkit.spatial.lite needs shapely: pip install 'perfkit[geo]'"


def test_lengths_of_routes(session):
    """A line in Helsinki, in metres."""
    session.add(Route(path="SRID=4326;LINESTRING(24.9414 60.1719,24.9316 60.169,24.9414 60.1719)"))
    session.commit()

    assert session.scalars(select(length_m(Route.path))).one() == pytest.approx(2 * BETWEEN_M, abs=0.2)


def test_an_engine_in_the_place_of_one_that_is_gone_is_spatial_too():
    """SQLAlchemy knows listeners by the id of the engine, and keeps them as long as its dialect, which caches hold."""
    dialects = []
    for _ in range(300):
        made = create_engine("sqlite://")
        lite.install(made)
        with made.connect() as connection:
            assert connection.execute(text("SELECT ST_X(ST_MakePoint(1, 2))")).scalar_one() == 1
        dialects.append(made.dialect)
        made.dispose()
        del made, connection
