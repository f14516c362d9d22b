"""Strings as documents and terminals take them."""

import json
import re
import unicodedata


def quoted(value: str | float | bool) -> str:
    """A string, number or truth value as JSON, TOML and YAML all read it. JSON alone lets U+007F to U+009F stand for
    themselves."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def escaped(text: str) -> str:
    """A text as it may stand on a page and a terminal: control characters, signs that turn the direction of writing and
    bytes that are no UTF-8 are written as escapes."""
    return "".join(
        _escaped(one) if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else one for one in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads a byte that is no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
