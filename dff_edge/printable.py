"""Untrusted text made safe to print: on a terminal, in a log, on one line.

Names of classes, files and cameras, notes in pictures and streams are untrusted, and a terminal
interprets parts of them. Moving the cursor or clearing a line can change a message; direction
marks can reverse it.
"""

from __future__ import annotations

import unicodedata

# Bytes of a file name that is not UTF-8; stdout writes them unchanged.
UNDECODED = "".join(map(chr, range(0xDC80, 0xDD00)))

# Control, format, surrogate, private and unassigned characters, and line separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_printable(text: str) -> bool:
    """Return whether a text may be printed as it is."""
    return text.isascii() and text.isprintable() or not any(map(_is_unsafe, text))


def printable(text: object, keep: str = "") -> str:
    """Return a text with control characters escaped, as in Python.

    Args:
        text: a text, or an object to convert.
        keep: characters that are not escaped, such as line ends.

    Example:
        >>> printable("road" + chr(27) + "[2K")
        'road\\\\x1b[2K'
    """
    told = str(text)
    if is_printable(told):
        return told
    return "".join(
        char if char in keep or not _is_unsafe(char) else _written_out(char) for char in told
    )


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE


def _written_out(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
