"""Text of others made safe to print: on a terminal, in a log, on one line.

Names of classes, files and cameras, notes in pictures and streams: what they hold is not ours, and
a terminal obeys some of it. Moving the cursor or clearing a line can make a message say anything;
marks of direction can turn it around.
"""

from __future__ import annotations

import unicodedata

# Bytes of a file's name that is no UTF-8; stdout gives them as they are.
UNDECODED = "".join(map(chr, range(0xDC80, 0xDD00)))

# Control, format, surrogate, private and unassigned characters, and separators of lines.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_printable(text: str) -> bool:
    """Whether a text may be printed as it is."""
    return text.isascii() and text.isprintable() or not any(map(_is_unsafe, text))


def printable(text: object, keep: str = "") -> str:
    """Give a text with what a terminal would obey written out, as in Python.

    Args:
        text: or what has one.
        keep: characters that stay, such as ends of lines.

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
