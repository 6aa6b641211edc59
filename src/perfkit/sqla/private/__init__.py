"""Every name of SQLAlchemy that is not public and that perfkit uses: probed, with what happens without it.

Each file is about one part of SQLAlchemy and begins with a table: our function, their name, and what there is else.

    connections   Connections and engines: whether statements commit by themselves, and which engine it is.
    greenlets     Greenlets: whether this is one in which an async engine can wait, and where it was started from.
    mapped        What is mapped: classes, and what a column or a type says of them.
    placing       Rows that become entities of a session without a statement of it.
    runs          Runs: SQLAlchemy numbers its loads, and writes the number on each object.
    executing     What an execution of a session is for, and who else is told of it.
    counting      The rows of a statement that has just run, and which columns and paths they are of.
    clauses       The parts of a statement that have no public name.
    options       The loader options of a statement.
    results       Results that stand for those of a session.
    sessions      What a session holds, and which there are.
    replaying     Rows that were read at once, and become entities when somebody asks for them.
    attributes    What loads an attribute when it is touched.
    lacking       What this SQLAlchemy has not got, in words for the one warning that says so.

`tests/facts` says of each that it still does what we think.
"""

from __future__ import annotations

from perfkit.sqla.private.attributes import (
    PASSIVE_OFF as PASSIVE_OFF,
)
from perfkit.sqla.private.attributes import (
    identity_binds as identity_binds,
)
from perfkit.sqla.private.attributes import (
    lazy_binds as lazy_binds,
)
from perfkit.sqla.private.attributes import (
    put_before as put_before,
)
from perfkit.sqla.private.attributes import (
    take_away as take_away,
)
from perfkit.sqla.private.clauses import (
    Parts as Parts,
)
from perfkit.sqla.private.clauses import (
    binds_of as binds_of,
)
from perfkit.sqla.private.clauses import (
    blank_of as blank_of,
)
from perfkit.sqla.private.clauses import (
    joins_of as joins_of,
)
from perfkit.sqla.private.clauses import (
    locks_rows as locks_rows,
)
from perfkit.sqla.private.clauses import (
    parts_of as parts_of,
)
from perfkit.sqla.private.clauses import (
    reference_in as reference_in,
)
from perfkit.sqla.private.clauses import (
    roots_of as roots_of,
)
from perfkit.sqla.private.clauses import (
    selects_from as selects_from,
)
from perfkit.sqla.private.clauses import (
    structure_of as structure_of,
)
from perfkit.sqla.private.clauses import (
    where_terms as where_terms,
)
from perfkit.sqla.private.clauses import (
    with_where as with_where,
)
from perfkit.sqla.private.clauses import (
    without_locks as without_locks,
)
from perfkit.sqla.private.connections import (
    engine_isolation as engine_isolation,
)
from perfkit.sqla.private.connections import (
    is_autocommit as is_autocommit,
)
from perfkit.sqla.private.connections import (
    is_told_to_autocommit as is_told_to_autocommit,
)
from perfkit.sqla.private.connections import (
    root_engine as root_engine,
)
from perfkit.sqla.private.counting import (
    Counted as Counted,
)
from perfkit.sqla.private.counting import (
    columns_of as columns_of,
)
from perfkit.sqla.private.counting import (
    count_rows as count_rows,
)
from perfkit.sqla.private.counting import (
    joined_paths as joined_paths,
)
from perfkit.sqla.private.executing import (
    has_listeners_left as has_listeners_left,
)
from perfkit.sqla.private.executing import (
    is_legacy_query as is_legacy_query,
)
from perfkit.sqla.private.executing import (
    listeners_behind as listeners_behind,
)
from perfkit.sqla.private.executing import (
    listeners_left as listeners_left,
)
from perfkit.sqla.private.executing import (
    listeners_of as listeners_of,
)
from perfkit.sqla.private.executing import (
    loaded_by as loaded_by,
)
from perfkit.sqla.private.executing import (
    loading_of as loading_of,
)
from perfkit.sqla.private.executing import (
    loads_subclass as loads_subclass,
)
from perfkit.sqla.private.executing import (
    part_listeners as part_listeners,
)
from perfkit.sqla.private.executing import (
    refresh_of as refresh_of,
)
from perfkit.sqla.private.greenlets import (
    await_in_greenlet as await_in_greenlet,
)
from perfkit.sqla.private.greenlets import (
    frame_outside_greenlet as frame_outside_greenlet,
)
from perfkit.sqla.private.greenlets import (
    in_greenlet as in_greenlet,
)
from perfkit.sqla.private.lacking import unseen as unseen
from perfkit.sqla.private.lacking import why_not_batched as why_not_batched
from perfkit.sqla.private.mapped import (
    is_temporary as is_temporary,
)
from perfkit.sqla.private.mapped import (
    mapped_classes as mapped_classes,
)
from perfkit.sqla.private.mapped import (
    mapper_annotated as mapper_annotated,
)
from perfkit.sqla.private.mapped import (
    variants_of as variants_of,
)
from perfkit.sqla.private.options import (
    collection_of_joins as collection_of_joins,
)
from perfkit.sqla.private.options import (
    criteria_of as criteria_of,
)
from perfkit.sqla.private.options import (
    options_of as options_of,
)
from perfkit.sqla.private.options import (
    reads_own_joins as reads_own_joins,
)
from perfkit.sqla.private.options import (
    strategies_in as strategies_in,
)
from perfkit.sqla.private.options import (
    strategies_of as strategies_of,
)
from perfkit.sqla.private.options import (
    wildcards_of as wildcards_of,
)
from perfkit.sqla.private.placing import (
    Place as Place,
)
from perfkit.sqla.private.placing import (
    list_putter as list_putter,
)
from perfkit.sqla.private.placing import (
    noticing_held as noticing_held,
)
from perfkit.sqla.private.placing import (
    placer as placer,
)
from perfkit.sqla.private.placing import (
    take_out as take_out,
)
from perfkit.sqla.private.placing import (
    tell_loaded as tell_loaded,
)
from perfkit.sqla.private.placing import (
    tell_refreshed as tell_refreshed,
)
from perfkit.sqla.private.replaying import Replay as Replay
from perfkit.sqla.private.results import (
    require_unique as require_unique,
)
from perfkit.sqla.private.results import (
    result_of as result_of,
)
from perfkit.sqla.private.results import (
    wants_unique as wants_unique,
)
from perfkit.sqla.private.runs import new_run as new_run
from perfkit.sqla.private.runs import regroup as regroup
from perfkit.sqla.private.runs import run_number as run_number
from perfkit.sqla.private.runs import run_of as run_of
from perfkit.sqla.private.sessions import (
    is_clean as is_clean,
)
from perfkit.sqla.private.sessions import (
    live_sessions as live_sessions,
)
from perfkit.sqla.private.sessions import (
    newest_first as newest_first,
)
