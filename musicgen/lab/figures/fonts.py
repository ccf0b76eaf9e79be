"""Fonts of figures: choose an installed font that has the characters of a text, or escape them."""

import re
import sys
from functools import cache

from matplotlib import font_manager

from musicgen.lab.figures.html import readable

DEFAULT_FAMILY = "DejaVu Sans"  # comes with matplotlib
# Families that have Chinese, Japanese or Korean characters on Linux, Windows and macOS, then those that have other
# scripts. Only these are opened.
OTHER_FAMILIES = re.compile(
    "CJK|Han Sans|WenQuanYi|Droid Sans Fallback|Unifont|Gothic|Mincho|Meiryo|Hiragino|PingFang|Heiti|Songti|"
    "YaHei|SimHei|SimSun|JhengHei|Malgun|Nanum|Arial Unicode|"
    "^Noto S|FreeSans|FreeSerif|Leelawadee|Nirmala|Segoe UI|Tahoma|Thonburi|Kohinoor|Apple Symbols"
)
TOLD: set[str] = set()  # characters that were reported


def drawable(text: object) -> str:
    r"""Escape the characters of `text` that no installed font has, as in ``\u97f3``.

    A line on standard error names them when they occur for the first time.
    """
    kept = readable(text).replace("\t", " ")  # no font has a tab
    missing = {letter for letter in beyond_default(kept) if not _family_with(letter)}
    if missing - TOLD:
        TOLD.update(missing)
        letters = "".join(sorted(missing))
        advice = "Install one that does, such as Noto, and restart"
        print(f"No font that figures use has {letters}: they show codes. {advice}.", file=sys.stderr)
    return "".join(ascii(letter)[1:-1] if letter in missing else letter for letter in kept)


def families_for(text: str) -> list[str]:
    """Return the font families to draw `text` with: the default one, then those that have the other characters."""
    others = (_family_with(letter) for letter in sorted(beyond_default(text)))
    return [DEFAULT_FAMILY, *dict.fromkeys(family for family in others if family)]


def beyond_default(text: str) -> set[str]:
    """Return the characters of `text` that the default font does not have."""
    if text.isascii():
        return set()
    known = _characters(font_manager.findfont(DEFAULT_FAMILY))
    return {letter for letter in text if letter.isprintable() and ord(letter) not in known}


@cache
def _family_with(letter: str) -> str | None:
    """Return the first installed font family that has a character, or None."""
    for font in font_manager.fontManager.ttflist:
        if OTHER_FAMILIES.search(font.name) and ord(letter) in _characters(font.fname):
            return font.name
    return None


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the code points that a font file has; none if it cannot be read, or is no longer there."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
