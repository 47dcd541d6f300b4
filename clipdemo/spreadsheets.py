"""Text from strangers in files that spreadsheets open."""

from __future__ import annotations

_FORMULA = tuple("=+-@＝＋－＠")


def harmless(text: str) -> str:
    """The text in one line, as a spreadsheet shows it and never computes it: see OWASP, "CSV injection"."""
    flat = " ".join(text.split())
    return f"'{flat}" if flat.startswith(_FORMULA) else flat
