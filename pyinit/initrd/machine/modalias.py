# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Module aliases: shell patterns over device identities such as `pci:v00001AF4d00001001…`."""


def normal(text: str) -> str:
    """`-` as `_`, as depmod and modprobe compare; not inside `[…]`, where it is a range."""
    if "[" not in text:
        return text.replace("-", "_")
    result = []
    inside = False
    for character in text:
        inside = character == "[" or (inside and character != "]")
        result.append("_" if character == "-" and not inside else character)
    return "".join(result)


def prefix(pattern: str) -> str:
    """The fixed start of a pattern. Comparing it first saves match() for nearly all patterns."""
    for at, character in enumerate(pattern):
        if character in "*?[":
            return pattern[:at]
    return pattern


def match(pattern: str, text: str) -> bool:
    """`*`, `?`, `[a-z]`, `[!a-z]`; everything else stands for itself.

    At most len(pattern) * len(text) steps: only the last `*` is ever tried again, which is enough,
    since an earlier one could give a later one nothing that this does not already have.
    """
    if "[" not in pattern and "?" not in pattern:
        return _match_stars(pattern.split("*"), text)
    at = here = 0
    star = retry = -1
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, here
            at += 1
            continue
        step = _one(pattern, at, text[here])
        if step:
            at += step
            here += 1
        elif star >= 0:
            retry += 1
            at, here = star + 1, retry
        else:
            return False
    return not pattern[at:].strip("*")


def _match_stars(parts: list[str], text: str) -> bool:
    """`parts`: what stands before, between and behind the `*` of a pattern. Nearly all have no
    other sign, and a processor's identity is long."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    if not text.startswith(first):
        return False
    at = len(first)
    for part in parts[1:-1]:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return text.endswith(last) and at + len(last) <= len(text)


def _one(pattern: str, at: int, character: str) -> int:
    """How much of the pattern stands for this one character; 0: it does not match."""
    if at == len(pattern):
        return 0
    if pattern[at] != "[":
        return int(pattern[at] == "?" or pattern[at] == character)
    end = pattern.find("]", at + 2)
    if end < 0:
        return int(character == "[")
    members = pattern[at + 1 : end]
    negated = members[0] in "!^"
    members = members[negated:]
    hit = False
    here = 0
    while here < len(members):
        high = members[here + 2 : here + 3] if members[here + 1 : here + 2] == "-" else ""
        if high:
            hit = hit or members[here] <= character <= high
            here += 3
        else:
            hit = hit or members[here] == character
            here += 1
    return end + 1 - at if hit != negated else 0
