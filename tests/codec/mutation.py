"""Hostile bytes made of good ones: cut, joined, flipped, with numbers blown up and parts of other payloads put in."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

_HEADERS = bytes(range(0xC0, 0xE0)) + bytes([0x80, 0x8F, 0x90, 0x9F])
_NUMBERS = [struct.pack(">B", 255), struct.pack(">H", 65535), struct.pack(">I", 2**31), struct.pack(">I", 2**32 - 1)]


def mutate(good: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """`good` with one to four changes."""
    raw = bytearray(good)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(raw) + 1)
        match dice.randrange(8):
            case 0:
                raw[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                raw[at : at + 1] = bytes([dice.choice(_HEADERS)])
            case 2:
                del raw[at : at + dice.randint(1, 9)]
            case 3:
                raw[at : at + dice.choice([0, 1, 2, 4])] = dice.choice(_NUMBERS)
            case 4:
                other = dice.choice(others)
                start = dice.randrange(len(other))
                raw[at:at] = other[start : start + dice.randint(1, 40)]
            case 5:
                raw[at:at] = raw[at : at + dice.randint(1, 40)] * dice.randint(1, 3)
            case 6:
                raw[at : at + 1] = bytes([raw[at] ^ (1 << dice.randrange(8))]) if at < len(raw) else b""
            case _:
                raw[at:] = b""
    return bytes(raw)
