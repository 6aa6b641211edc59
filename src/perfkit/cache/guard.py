"""Entries that only those can make who know a secret, and only those can read if they are encrypted.

What stands in the store is sealed under the name of its key (`codec.sealed`), so an entry that somebody copies to
another name is none. What remains to one who can write to the store: to put back what had been there before, entries
and tag cells alike.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from perfkit.codec.sealed import SIGNED_BYTES as SIGNED_BYTES
from perfkit.codec.sealed import Seal, derived
from perfkit.errors import CacheDeclarationError


class Guard(Seal):
    """The seal of entries, and names for keys that nobody shall read."""

    def __init__(self, secrets: Sequence[bytes], *, encrypts: bool) -> None:
        """Work out the keys of each secret.

        Raises:
            CacheDeclarationError: no secret, or one that is too short.
            MissingExtra: `encrypts`, and `cryptography` is not installed.
        """
        try:
            super().__init__(secrets, encrypts=encrypts, purpose="entries")
        except ValueError as wrong:
            raise CacheDeclarationError(str(wrong)) from None
        self.kind = "e" if encrypts else "s"  # part of the keys, so that processes with and without do not disturb
        self._naming = derived(secrets[0], b"perfkit: name entries")

    def hidden(self, text: str) -> str:
        """What stands for `text` in a name where nobody shall read it."""
        return hmac.digest(self._naming, text.encode(errors="surrogatepass"), "sha256").hex()
