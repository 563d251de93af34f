# SPDX-License-Identifier: Apache-2.0 OR MIT
"""UTF-16LE, as EFI variables and f2fs have it.

By hand: the codec is Python code, which a core-only interpreter does not have.
"""


def decode(data: bytes) -> str:
    """The text of a whole number of units. ValueError: a lone surrogate, half a unit."""
    if len(data) % 2:
        raise ValueError(f"{len(data)} bytes: not UTF-16")
    result = []
    high = 0
    for at in range(0, len(data), 2):
        unit = data[at] | data[at + 1] << 8
        if high:
            if unit & 0xFC00 != 0xDC00:
                raise ValueError(f"lone surrogate 0x{high:x}")
            result.append(chr(0x10000 + ((high & 0x3FF) << 10) + (unit & 0x3FF)))
            high = 0
        elif unit & 0xFC00 == 0xD800:
            high = unit
        elif unit & 0xFC00 == 0xDC00:
            raise ValueError(f"lone surrogate 0x{unit:x}")
        else:
            result.append(chr(unit))
    if high:
        raise ValueError(f"lone surrogate 0x{high:x}")
    return "".join(result)
