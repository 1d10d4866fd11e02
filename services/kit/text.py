"""Text that people type: what letters it may have, and the one form in which it is stored and compared."""

import re
from unicodedata import category, normalize

# Bidi_Control: each reverses or reorders what follows it, also behind the end of a name.
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Letters and symbols by category that show nothing (Default_Ignorable_Code_Point, and the blank Braille pattern).
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
_INVISIBLE = rf"\s\u00ad\u034f\u180e\u200b-\u200d\u2060-\u2064\ufeff{_BLANK_LETTERS}"
_ENDS = re.compile(rf"^[{_INVISIBLE}]+|[{_INVISIBLE}]+$")
_VISIBLE = ("L", "N", "P", "S")


def one_line(text: str) -> str:
    """Return the text in NFC, without blanks at its ends and with single ones inside; raise ValueError if none shows.

    The same letters in another form would be another name, and a name that begins with a blank the first of a list.
    """
    return visible(" ".join(_ENDS.sub("", normalize("NFC", text)).split()))


def visible(text: str) -> str:
    """Return the text; raise ValueError if nothing of it shows."""
    if not any(category(letter)[0] in _VISIBLE and letter not in _BLANK_LETTERS for letter in text):
        raise ValueError("Expected letters that can be seen")
    return text
