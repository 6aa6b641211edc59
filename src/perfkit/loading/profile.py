"""Profiles: what one use case loads, declared once, checked against the models, applied to a statement in one call.

    class BinList(EagerProfile, entity=Bin, fields=("id", "name")):
        customer = one(organization=one(fields=["id", "name"]))
        collections = many(fields=["collected_at"])
        created_by = never()

    session.scalars(BinList.apply(select(Bin).where(Bin.status == "active")))

Whatever else there is to load is left out: in tests an error that names it, in production lazy (`set_strictness`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeVarTuple
from weakref import WeakSet

from sqlalchemy import Select, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import LoaderOption

from perfkit.errors import ProfileError
from perfkit.loading.checking import check
from perfkit.loading.levels import How, Level, Path
from perfkit.loading.options import chosen_of, options_of
from perfkit.sqla.private import roots_of

Selected = TypeVarTuple("Selected")
Strictness = Literal["raise", "lazy"]
Fields = Sequence[str] | None

_strictness: Strictness = "lazy"
_profiles: WeakSet[type[EagerProfile]] = WeakSet()


def set_strictness(mode: Strictness) -> Strictness:
    """From now on, in this process, `"raise"` an error for what profiles leave out, or let it be `"lazy"`.

    For the start of a test run. Returns what was set before; it begins as `"lazy"`. What is there without a statement,
    because the session holds it, is never an error.
    """
    global _strictness
    before, _strictness = _strictness, _checked(mode)
    return before


class EagerProfile:
    """What is loaded of an entity, and of what it leads to. The names in the class are the entity's.

    `class BinList(EagerProfile, entity=Bin, …)`, or without an entity for a part of other profiles:

    fields
        Names of columns; the others are not loaded. Primary keys always are, and what the relationships need. Without
        it all columns are, as they are mapped.
    subclasses
        Profiles of subclasses of the entity: what they have beyond it. One statement more for each.

    A subclass has what its bases have, adds to it and replaces it. Names are checked when the class is made, if its
    models are configured by then; else at its first use or by `check_profiles`.

    Raises:
        UnknownAttribute: the entity has no attribute of a name.
        ProfileError: an attribute is used as what it is not.
    """

    _level: ClassVar[Level] = Level()
    _made: ClassVar[dict[tuple[type, Strictness], tuple[LoaderOption, ...]]] = {}

    def __init_subclass__(
        cls,
        *,
        entity: type | None = None,
        fields: Fields = None,
        subclasses: Sequence[type[EagerProfile]] = (),
    ) -> None:
        cls._level, cls._made = _declared(cls, entity, _names(fields, cls.__name__), _levels(subclasses)), {}
        mapper = _mapper_of(cls)
        if mapper is not None and mapper.configured:
            check(cls._level, mapper, cls.__name__)
        _profiles.add(cls)

    @classmethod
    def apply(cls, statement: Select[*Selected], *, strictness: Strictness | None = None) -> Select[*Selected]:
        """The statement with the profile's options for each of its entities that is one of the profile's, or an alias.

        Loader options that it has already stay as they are, and win; so do those that are added later.

        Raises:
            ProfileError: the statement selects no such entity.
        """
        mapper, left_out = _mapper_in_use(cls), _in_use(strictness)
        entities = [root.entity for root in roots_of(statement) if root.mapper.isa(mapper)]
        if not entities:
            raise ProfileError(f"{cls.__name__}.apply: the statement selects no {mapper.class_.__name__}.")
        found: list[LoaderOption] = []
        for entity in entities:
            if chosen := chosen_of(statement, entity):
                found += options_of(cls._level, entity, left_out=left_out, chosen=chosen)
            else:
                found += cls.options(entity, strictness=strictness)
        return statement.options(*found)

    @classmethod
    def options(cls, entity: Any = None, *, strictness: Strictness | None = None) -> tuple[LoaderOption, ...]:
        """The profile's loader options, for `select(…).options(*…)` or `session.get(…, options=…)`.

        `entity` is a subclass of the profile's, or an alias, in whose place it stands.
        """
        mapper, left_out = _mapper_in_use(cls), _in_use(strictness)
        entity = mapper.class_ if entity is None else entity
        if not isinstance(entity, type):  # there may be any number of aliases
            return options_of(cls._level, entity, left_out=left_out, chosen={})
        if (entity, left_out) not in cls._made:
            cls._made[entity, left_out] = options_of(cls._level, entity, left_out=left_out, chosen={})
        return cls._made[entity, left_out]


def one(profile: type[EagerProfile] | None = None, /, *, fields: Fields = None, **paths: Path) -> Path:
    """A related object, loaded by one statement for all: by its profile, with `fields` and further `paths`."""
    return _path(How.ONE, profile, fields, paths)


def joined(profile: type[EagerProfile] | None = None, /, *, fields: Fields = None, **paths: Path) -> Path:
    """A related object, loaded by the same statement in a JOIN; for many-to-one, where that multiplies no rows."""
    return _path(How.JOINED, profile, fields, paths)


def many(profile: type[EagerProfile] | None = None, /, *, fields: Fields = None, **paths: Path) -> Path:
    """A collection, loaded by one statement for all: by its profile, with `fields` and further `paths`."""
    return _path(How.MANY, profile, fields, paths)


def lazy() -> Path:
    """A relationship or column that is loaded when it is touched, and is no error in tests."""
    return Path(How.LAZY)


def never() -> Path:
    """A relationship or column that is not to be loaded, whatever a base of the profile says."""
    return Path(How.NEVER)


def check_profiles() -> None:
    """Check every profile there is against its models; for the start of a service, when all are imported.

    Raises:
        ProfileError: the first that cannot work.
    """
    for each in list(_profiles):
        if _mapper_of(each) is not None:
            _mapper_in_use(each)


def _path(how: How, profile: type[EagerProfile] | None, fields: Any, paths: dict[str, Path]) -> Path:
    if isinstance(fields, Path):  # a relationship of that name
        paths, fields = {**paths, "fields": fields}, None
    if profile is not None and not (isinstance(profile, type) and issubclass(profile, EagerProfile)):
        raise ProfileError(f"{how.value[:-1]}{profile!r}): give a profile, or names with what is loaded of them.")
    level = Level() if profile is None else profile._level  # noqa: SLF001 - its own
    strange = [f"{name}={value!r}" for name, value in paths.items() if not isinstance(value, Path)]
    if strange:
        raise ProfileError(f"{how.value[:-1]}{strange[0]}): must be one(), joined(), many(), lazy() or never().")
    return Path(how, level.with_more(_names(fields, how.value), paths))


def _declared(
    cls: type[EagerProfile], entity: type | None, fields: tuple[str, ...] | None, subclasses: tuple[Level, ...]
) -> Level:
    """The level of a class: what it says itself, and what its bases say, the first of them before the others."""
    paths = dict(_taken(cls))
    for base in cls.__mro__[1:]:
        if issubclass(base, EagerProfile):
            level = base._level  # noqa: SLF001 - its own
            entity, fields = entity or level.entity, level.fields if fields is None else fields
            paths, subclasses = {**level.paths, **paths}, subclasses or level.subclasses
    return Level(entity=entity, fields=fields, paths=paths, subclasses=subclasses)


def _taken(cls: type[EagerProfile]) -> Iterator[tuple[str, Path]]:
    for name, value in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, Path):
            if hasattr(EagerProfile, name):  # a relationship of that name: the method stays what it is
                delattr(cls, name)
            yield name, value
        elif value in (one, joined, many, lazy, never):
            raise ProfileError(f"{cls.__name__}.{name}: write {value.__name__}().")
        elif isinstance(value, type) and issubclass(value, EagerProfile):
            raise ProfileError(f"{cls.__name__}.{name}: write one({value.__name__}) or many({value.__name__}).")
        elif name in ("entity", "fields", "subclasses"):
            raise ProfileError(f"{cls.__name__}: write class {cls.__name__}(EagerProfile, {name}=…), not below.")
        elif not isinstance(value, _BESIDE):
            raise ProfileError(
                f"{cls.__name__}.{name} = {value!r}: must be one(), joined(), many(), lazy() or never()."
            )


_BESIDE = (classmethod, staticmethod, property, type(set_strictness), type)


def _levels(profiles: Sequence[type[EagerProfile]]) -> tuple[Level, ...]:
    return tuple(each._level for each in profiles)  # noqa: SLF001 - its own


def _names(fields: Fields, where: str) -> tuple[str, ...] | None:
    if isinstance(fields, str) or not all(isinstance(name, str) for name in fields or ()):
        raise ProfileError(f"{where}: fields={fields!r}: give a list of names of columns.")
    return None if fields is None else tuple(fields)


def _mapper_of(profile: type[EagerProfile]) -> Mapper[Any] | None:
    """None for a part of others, which has no entity."""
    entity = profile._level.entity  # noqa: SLF001 - its own
    if entity is None:
        return None
    mapper: Any = inspect(entity, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise ProfileError(f"{profile.__name__}: entity={entity!r} is no mapped class.")
    return mapper


def _mapper_in_use(profile: type[EagerProfile]) -> Mapper[Any]:
    mapper = _mapper_of(profile)
    if mapper is None:
        raise ProfileError(f"{profile.__name__}: is a part of other profiles: it has no entity= to be applied to.")
    if "_is_checked" not in vars(profile):
        mapper.registry.configure(cascade=True)
        check(profile._level, mapper, profile.__name__)  # noqa: SLF001 - its own
        profile._is_checked = True  # type: ignore[attr-defined]  # noqa: SLF001 - read above, by name
    return mapper


def _in_use(mode: Strictness | None) -> Strictness:
    return _strictness if mode is None else _checked(mode)


def _checked(mode: Strictness) -> Strictness:
    if mode not in ("raise", "lazy"):
        raise ProfileError(f"strictness {mode!r}: must be 'raise' or 'lazy'.")
    return mode
