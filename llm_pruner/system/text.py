"""Text of a user's in outputs: it stays text, whatever it holds."""

from __future__ import annotations

import re
import unicodedata

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKUP = re.compile(r"[\\`*~$\[\]|<>&]|(?<!\w)_|_(?!\w)")


def printable(text: str) -> str:
    """The text on one line, with a replacement character for each control character and each half of a character.

    >>> printable("a\\x1b[2J\\nb")
    'a\ufffd[2J b'
    """
    signs = (" " if sign in "\t\n\r" else sign for sign in text)
    return "".join("\ufffd" if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in signs)


def csv_cell(text: str) -> str:
    """The text as a spreadsheet reads it from a CSV file: an apostrophe in front of what would become a formula.

    >>> csv_cell("=1+1"), csv_cell("GQA_2000")
    ("'=1+1", 'GQA_2000')
    """
    return f"'{text}" if text.lstrip("'").startswith(_STARTS_FORMULA) else text


def from_csv_cell(text: str) -> str:
    """The text of a cell that ``csv_cell`` wrote."""
    return text[1:] if text.startswith("'") and csv_cell(text[1:]) == text else text


def markdown_cell(text: str) -> str:
    """The text for a cell of a Markdown table: none of its signs becomes markup, and it stays on one line.

    >>> markdown_cell("a|b <b> _c_ GQA_2000")
    'a&#124;b &#60;b&#62; &#95;c&#95; GQA_2000'
    """
    return _MARKUP.sub(lambda sign: f"&#{ord(sign[0])};", " ".join(text.split()))
