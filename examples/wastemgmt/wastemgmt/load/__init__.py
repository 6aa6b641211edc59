"""The demo: the same requests without and with the cache, and what became of the targets."""
