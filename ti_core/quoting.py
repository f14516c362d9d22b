"""Strings, numbers and truth values as JSON, TOML and YAML all read them."""

import json
import re


def quoted(value: str | float | bool) -> str:
    """`value` as it stands in a document of either form. JSON alone lets U+007F to U+009F stand for themselves."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)
