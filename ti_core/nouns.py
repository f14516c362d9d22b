"""Everyday nouns: what a class word may be when somebody's own does not fit, or is no word at all. Our own list.

It knows no model; whoever asks keeps those that a vocabulary holds.
"""

from functools import cache
from importlib.resources import files

NEUTRAL = {"object": "object", "style": "picture"}
"""By kind of concept, the noun that says nothing about a thing: a baseline that is the same for every concept."""


@cache
def everyday() -> tuple[str, ...]:
    """The nouns, each once, in the order of the list."""
    lines = (files("ti_core") / "nouns.txt").read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(noun for line in lines if not line.startswith("#") for noun in line.split()))
