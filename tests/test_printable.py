"""Control characters are escaped, all else stays as it is."""

from __future__ import annotations

import pytest

from dff_edge.printable import is_printable, printable

UNSAFE = {
    "\x1b[2K\rcheerful": "\\x1b[2K\\rcheerful",
    "a\nb": "a\\nb",
    "a\tb": "a\\tb",
    "\x00": "\\x00",
    "\x7f": "\\x7f",
    "\x9b31m": "\\x9b31m",  # ESC [ in one character
    "\u202eabc": "\\u202eabc",  # turns what follows around
    "\u2066x": "\\u2066x",
    "\u200fx": "\\u200fx",
    "zero\u200bwidth": "zero\\u200bwidth",
    "two\u2028lines": "two\\u2028lines",
    "\ud800": "\\ud800",  # a byte of a file's name that is no UTF-8
    "\ue000": "\\ue000",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize(("text", "told"), UNSAFE.items(), ids=ascii)
def test_it_is_written_out(text, told):
    assert not is_printable(text)
    assert printable(text) == told
    assert is_printable(printable(text))
    printable(text).encode()  # every terminal can be given it


@pytest.mark.parametrize(
    "text", ["", "road", "a b", "Straße", "日本", "дорога", "Ω≥1", "👍", "a\u3000b"]
)
def test_plain_text_of_any_language_stays(text):
    assert is_printable(text)
    assert printable(text) == text


def test_ends_of_lines_stay_where_they_are_wanted():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_what_is_no_text_is_told_as_text():
    assert printable(ValueError("a\x1bb")) == "a\\x1bb"
