"""For your tests: a cache in memory, and assertions on what it does.

@pytest.fixture
def cache(engine):
with in_memory(shop.cache, engine, Base.metadata) as cache:
yield cache

def test_counts_are_cached(cache, session):
assert_cached(cache, counts, session, organization_id=7)

def test_renaming_renews_counts(cache, session):
with assert_invalidates(cache, Bin):
rename(session, bin_id=1, name="new")
"""

from perfkit.testing.caching import assert_cached, assert_invalidates, in_memory

__all__ = ["assert_cached", "assert_invalidates", "in_memory"]

for _public in (assert_cached, assert_invalidates, in_memory):
    _public.__module__ = __name__
