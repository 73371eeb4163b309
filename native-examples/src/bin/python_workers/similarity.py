"""How similar two texts are, by the pure Python code of `difflib`."""

from difflib import SequenceMatcher


def similarity(a, b):
    """Returns a number from 0 (nothing in common) to 1 (equal)."""
    return SequenceMatcher(None, a, b, autojunk=False).ratio()
