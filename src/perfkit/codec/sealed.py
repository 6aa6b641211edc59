"""Bytes that only those can make who know a secret, and only those can read if they are encrypted.

    signed      [key id: 4][HMAC-SHA256 of name and body: 32][body]
    encrypted   [key id: 4][nonce: 12][AES-256-GCM of the body, authenticated with the name]

The name under which bytes stand – the key of a cache entry, the ordering of a page – is part of what is authenticated,
so what somebody copies to another name is worth nothing there. The purpose is part of the keys: one secret may serve
several, and nothing that one of them made is good for another.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from os import urandom
from typing import Any

from perfkit.errors import MissingExtra, Unreadable

MIN_SECRET_BYTES = 16
_ID_BYTES, _MAC_BYTES, _NONCE_BYTES = 4, 32, 12
SIGNED_BYTES = _ID_BYTES + _MAC_BYTES  # in front of a body that is signed and not encrypted


class Seal:
    """Makes and opens sealed bytes. The first of `secrets` makes, any of them opens."""

    def __init__(self, secrets: Sequence[bytes], *, encrypts: bool, purpose: str) -> None:
        """Work out the keys of each secret.

        Raises:
            ValueError: no secret, or one that is too short.
            MissingExtra: `encrypts`, and `cryptography` is not installed.
        """
        if isinstance(secrets, bytes | str) or not secrets:
            raise ValueError("secrets= must be a sequence of bytes, the one that signs first.")
        for secret in secrets:
            if not isinstance(secret, bytes) or len(secret) < MIN_SECRET_BYTES:
                raise ValueError(
                    f"secrets=: each must be {MIN_SECRET_BYTES} random bytes or more: secrets.token_bytes(32)."
                )
        self.encrypts = encrypts
        sign, encrypt = f"perfkit: sign {purpose}".encode(), f"perfkit: encrypt {purpose}".encode()
        self._signing = {_id_of(secret): derived(secret, sign) for secret in secrets}
        self._first = _id_of(secrets[0])
        self._ciphers = {_id_of(secret): _cipher(derived(secret, encrypt), purpose) for secret in secrets if encrypts}

    def close(self, name: bytes, body: bytes) -> bytes:
        """What stands for `body` under `name`."""
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


def derived(secret: bytes, purpose: bytes) -> bytes:
    """A key for `purpose` alone."""
    return hmac.digest(secret, purpose, "sha256")


def _mac(key: bytes, name: bytes, body: bytes) -> bytes:
    # the length keeps a name and a body from lending each other bytes
    return hmac.digest(key, len(name).to_bytes(4, "big") + name + body, "sha256")


def _id_of(secret: bytes) -> bytes:
    return sha256(b"perfkit: id" + secret).digest()[:_ID_BYTES]


def _cipher(key: bytes, purpose: str) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as missing:
        raise MissingExtra(f"encrypting {purpose}", package="cryptography", extra="crypto") from missing
    return AESGCM(key)
