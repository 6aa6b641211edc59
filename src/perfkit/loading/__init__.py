"""What the ORM loads, when, and for how many at once.

Found:

    with detect() as window:
        handler()
    for finding in window.findings:
        print(finding)

`ignore` and `Baseline` leave out what is known, and `reports` has where the rest can go.

Declared, checked, and applied to a statement in one call:

    class BinList(EagerProfile, entity=Bin, fields=("id", "name")):
        customer = one(organization=one(fields=["name"]))
        created_by = never()

    session.scalars(BinList.apply(select(Bin)))

And where neither was done, `autobatch` reads the lazy loads of siblings in one statement, for a block, a function or
the process.
"""

from __future__ import annotations

from perfkit.loading import reports
from perfkit.loading.baseline import Baseline
from perfkit.loading.batch import autobatch
from perfkit.loading.detect import Window, detect
from perfkit.loading.evidence import Rules
from perfkit.loading.findings import Finding, Kind
from perfkit.loading.ignore import Ignore, Ignores, ignore
from perfkit.loading.learned import LearnedProfiles, UnreadableProfiles
from perfkit.loading.profile import (
    EagerProfile,
    Strictness,
    check_profiles,
    joined,
    lazy,
    many,
    never,
    one,
    set_strictness,
)
from perfkit.loading.settings import Stats
from perfkit.sqla.origin import Origin

__all__ = [
    "Baseline",
    "EagerProfile",
    "Finding",
    "Ignore",
    "Ignores",
    "Kind",
    "LearnedProfiles",
    "Origin",
    "Rules",
    "Stats",
    "Strictness",
    "UnreadableProfiles",
    "Window",
    "autobatch",
    "check_profiles",
    "detect",
    "ignore",
    "joined",
    "lazy",
    "many",
    "never",
    "one",
    "reports",
    "set_strictness",
]

for _public in (Baseline, Finding, Ignore, Ignores, Kind, Origin, Stats, Window, autobatch, detect, ignore):
    _public.__module__ = __name__
for _profile in (
    EagerProfile,
    LearnedProfiles,
    Rules,
    UnreadableProfiles,
    check_profiles,
    joined,
    lazy,
    many,
    never,
    one,
    set_strictness,
):
    _profile.__module__ = __name__
del _public, _profile
