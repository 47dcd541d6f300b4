"""A small grammar that writes texts: how rules are read, and how a text is drawn from them.

A rule is a name and the texts it may stand for. In a text `[a|b]` is a choice (it may nest and be empty), `{name}`
another rule, and `a^` becomes "a" or "an".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

Rules = dict[str, tuple[str, ...]]


class _Name(str):
    """A reference to a rule."""


# An option is a text, or a sequence of texts, names of rules and choices; a choice is a tuple of options.
Option = str | tuple
Choice = tuple[Option, ...]
Grammar = dict[str, Choice]

_TOKEN = re.compile(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+")
_ARTICLE = re.compile(r"a\^(?= ([aeioAEIO]|u(?!ni|ter)|8|11\b|18\b|MR|X-|H&)?)")
_SENTENCE = re.compile(r"\. (?:\([A-Z]\) )?[a-z]")


def compiled(*tables: Rules) -> Grammar:
    """All rules of the tables, ready to be written from; later tables hide earlier ones."""
    return {name: _compiled(texts) for table in tables for name, texts in table.items()}


def written(rule: str, grammar: Grammar, draw: Callable[[], float]) -> str:
    """A text for the rule; `draw` gives a number in [0, 1) for each choice. Its articles are still `a^`."""
    pieces: list[str] = []
    _write((_Name(rule),), grammar, draw, pieces)
    return "".join(pieces)


def polished(text: str) -> str:
    """The text with its articles settled and its sentences capitalised."""
    if "a^" in text:
        text = _ARTICLE.sub(_article, text)
    first = 4 if text.startswith("(A) ") else 0
    return text[:first] + text[first : first + 1].upper() + _SENTENCE.sub(_upper, text[first + 1 :])


def _article(match: re.Match[str]) -> str:
    return "an" if match[1] else "a"


def _upper(match: re.Match[str]) -> str:
    return match[0][:-1] + match[0][-1].upper()


@cache
def _compiled(texts: tuple[str, ...]) -> Choice:
    return tuple(_options(_TOKEN.findall(text + "]"))[0] for text in texts)


def _options(tokens: list[str]) -> Choice:
    """The options up to the bracket that closes them; takes what it reads off the front of `tokens`."""
    options: list[list] = [[]]
    while (token := tokens.pop(0)) != "]":
        if token == "|":
            options.append([])
        elif token == "[":
            options[-1].append(_options(tokens))
        else:
            options[-1].append(_Name(token[1:-1]) if token[0] == "{" else token)
    return tuple("".join(o) if all(type(piece) is str for piece in o) else tuple(o) for o in options)


def _write(option: Option, grammar: Grammar, draw: Callable[[], float], out: list[str]) -> None:
    """Appends the pieces of `option` to `out`, choosing where there is a choice."""
    if type(option) is str:
        out.append(option)
        return
    for piece in option:
        if type(piece) is str:
            out.append(piece)
            continue
        choice = grammar[piece] if type(piece) is _Name else piece
        chosen = choice[int(draw() * len(choice))]
        if type(chosen) is str:  # saves most of the calls
            out.append(chosen)
        else:
            _write(chosen, grammar, draw, out)
