"""Entries that only those can make who know a secret, and only those can read if they are encrypted.

    signed      [key id: 4][HMAC-SHA256 of key name and body: 32][body]
    encrypted   [key id: 4][nonce: 12][AES-256-GCM of the body, authenticated with the key name]

The name of the key under which an entry stands is part of what is authenticated, so an entry that somebody copies to
another name is none. What remains to one who can write to the store: to put back what had been there before, entries
and tag cells alike.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from os import urandom
from typing import Any

from perfkit.errors import CacheDeclarationError, MissingExtra, Unreadable

MIN_SECRET_BYTES = 16
_ID_BYTES, _MAC_BYTES, _NONCE_BYTES = 4, 32, 12
SIGNED_BYTES = _ID_BYTES + _MAC_BYTES  # in front of a body that is signed and not encrypted
_SIGN, _ENCRYPT, _NAME = b"perfkit: sign entries", b"perfkit: encrypt entries", b"perfkit: name entries"


class Guard:
    """Makes and opens what stands in the store. The first of `secrets` makes, any of them opens."""

    def __init__(self, secrets: Sequence[bytes], *, encrypts: bool) -> None:
        """Work out the keys of each secret.

        Raises:
            CacheDeclarationError: no secret, or one that is too short.
            MissingExtra: `encrypts`, and `cryptography` is not installed.
        """
        if isinstance(secrets, bytes | str) or not secrets:
            raise CacheDeclarationError("secrets= must be a sequence of bytes, the one that signs first.")
        for secret in secrets:
            if not isinstance(secret, bytes) or len(secret) < MIN_SECRET_BYTES:
                raise CacheDeclarationError(
                    f"secrets=: each must be {MIN_SECRET_BYTES} random bytes or more: secrets.token_bytes(32)."
                )
        self.encrypts = encrypts
        self.kind = "e" if encrypts else "s"  # part of the keys, so that processes with and without do not disturb
        self._signing = {_id_of(secret): _derived(secret, _SIGN) for secret in secrets}
        self._first = _id_of(secrets[0])
        self._naming = _derived(secrets[0], _NAME)
        self._ciphers = {_id_of(secret): _cipher(_derived(secret, _ENCRYPT)) for secret in secrets if encrypts}

    def close(self, name: bytes, body: bytes) -> bytes:
        """What stands in the store under `name`."""
        if self.encrypts:
            nonce = urandom(_NONCE_BYTES)
            sealed: bytes = self._ciphers[self._first].encrypt(nonce, body, name)
            return self._first + nonce + sealed
        return self._first + _mac(self._signing[self._first], name, body) + body

    def open(self, name: bytes, raw: bytes) -> bytes:
        """The body of what stood under `name`.

        Raises:
            Unreadable: nobody who knows one of the secrets has made it, for this name.
        """
        which, rest = raw[:_ID_BYTES], raw[_ID_BYTES:]
        if which not in self._signing:
            raise Unreadable(f"what stands under {name[:80]!r} was signed by nobody who is known here")
        if self.encrypts:
            try:
                body: bytes = self._ciphers[which].decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], name)
            except Exception as wrong:
                # InvalidTag, or ValueError for what is too short
                raise Unreadable(f"what stands under {name[:80]!r} cannot be decrypted") from wrong
            return body
        mac, body = rest[:_MAC_BYTES], rest[_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(self._signing[which], name, body)):
            raise Unreadable(f"what stands under {name[:80]!r} has a wrong signature")
        return body

    def hidden(self, text: str) -> str:
        """What stands for `text` in a name where nobody shall read it."""
        return hmac.digest(self._naming, text.encode(errors="surrogatepass"), "sha256").hex()


def _mac(key: bytes, name: bytes, body: bytes) -> bytes:
    # the length keeps a name and a body from lending each other bytes
    return hmac.digest(key, len(name).to_bytes(4, "big") + name + body, "sha256")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, purpose, "sha256")


def _id_of(secret: bytes) -> bytes:
    return sha256(b"perfkit: id" + secret).digest()[:_ID_BYTES]


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as missing:
        raise MissingExtra("encrypting entries", package="cryptography", extra="crypto") from missing
    return AESGCM(key)
