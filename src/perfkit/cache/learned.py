"""What the results of one function have turned out to depend on: a guess at what the next will.

The guess is captured before the load and asked for together with the entry, which saves round trips. It need not be
right: an entry bears its own tags, and what a load reads beyond the guess is captured just before it reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from perfkit.cache.read import NOTHING, Named
from perfkit.cache.tags import cell_key
from perfkit.errors import Unreadable

MAX_TAGS = 1_000  # of one entry
MAX_TAG_BYTES = 500
MAX_REMEMBERED = 10_000
MAX_SHAPES = 64  # of tags, of one function


class Learner:
    """Owns what it expects: of each key that was met, and of others by the shape of the tags."""

    def __init__(self, namespace: str, owner: str) -> None:
        self._namespace, self._owner = namespace, owner
        self._met: dict[bytes, Named] = {}
        self._shapes: dict[str, None] = {}

    def expected(self, key: bytes, known: Named, arguments: Callable[[], Mapping[str, object]]) -> Named:
        """What the result of this call will most likely depend on, beside what is known."""
        met = self._met.get(key)
        if met is not None:
            return met
        if not self._shapes:
            return NOTHING
        found: dict[bytes, None] = {}
        given = arguments()
        for shape in tuple(self._shapes):
            start, is_filled, parameter = shape.partition("\0")
            text = _text(given.get(parameter)) if is_filled else ""
            if text is not None:
                found[f"{start}{text}".encode(errors="surrogateescape")] = None
        likely = (tag for tag in found if tag not in known.tags and len(tag) <= MAX_TAG_BYTES)
        return self.named(tuple(islice(likely, MAX_TAGS)))

    def remember(self, key: bytes, tags: tuple[bytes, ...], arguments: Mapping[str, object]) -> None:
        """Expect these for `key` the next time, and the like of them for others."""
        if not fit_an_entry(tags):
            return
        met = self._met.get(key)
        if met is None or met.tags != tags:
            self.meet(key, self.named(tags))
        for shape in _shapes(tags, arguments):
            if len(self._shapes) < MAX_SHAPES:
                self._shapes[shape] = None

    def meet(self, key: bytes, found: Named) -> None:
        """Expect that for `key` alone."""
        if len(self._met) >= MAX_REMEMBERED:
            self._met.clear()
        self._met[key] = found

    def named(self, tags: tuple[bytes, ...]) -> Named:
        """`tags`, and where their cells live.

        Raises:
            Unreadable: no entry may bear them.
        """
        if not fit_an_entry(tags):
            raise Unreadable(f"an entry of {self._owner} bears {len(tags)} tags, or one that is none of ours")
        return Named(tags, tuple(cell_key(self._namespace, tag.decode(errors="surrogateescape")) for tag in tags))


def fit_an_entry(tags: Sequence[bytes]) -> bool:
    """Whether an entry may bear all of these."""
    return len(tags) <= MAX_TAGS and all(type(tag) is bytes and len(tag) <= MAX_TAG_BYTES for tag in tags)


class Expecting:
    """One call's part of what its function learns."""

    __slots__ = ("_arguments", "_key", "_learner", "expected")

    def __init__(
        self, learner: Learner, key: bytes, known: Named, arguments: Callable[[], Mapping[str, object]]
    ) -> None:
        self._learner, self._key, self._arguments = learner, key, arguments
        self.expected = learner.expected(key, known, arguments)

    def at(self, tags: tuple[bytes, ...]) -> Named:
        return self._learner.named(tags)

    def remember(self, tags: tuple[bytes, ...]) -> None:
        if tags == self.expected.tags:  # nothing to learn
            self._learner.meet(self._key, self.expected)
        else:
            self._learner.remember(self._key, tags, self._arguments())


def _shapes(tags: Iterable[bytes], arguments: Mapping[str, object]) -> Iterable[str]:
    """`bins?organization_id=` NUL `organization_id` for a tag that an argument has made, and other tags as they are."""
    texts = {text: name for name, value in arguments.items() if (text := _text(value)) is not None}
    for each in tags:
        tag = each.decode(errors="surrogateescape")
        start = max(tag.rfind("="), tag.rfind("#")) + 1
        name = texts.get(tag[start:]) if start else None
        if name is not None:
            yield f"{tag[:start]}\0{name}"
        elif not start or tag.endswith("*"):
            yield tag


def _text(value: object) -> str | None:
    return str(value) if type(value) in (int, str) else None
