"""Another process as if it were a fresh environment: it can import what some requirements bring, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement

_HOOK = """
import sys
_forbidden = frozenset({forbidden!r})
class _Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in _forbidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [_Without(finder) for finder in sys.meta_path]
"""


def _name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def brought_by(requirements: Iterable[str]) -> set[str]:
    """Distributions that an installer would install for these requirements, of those that are installed here."""
    found: set[str] = set()
    open_ends = [Requirement(line) for line in requirements]
    while open_ends:
        requirement = open_ends.pop()
        name = _name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        open_ends += [Requirement(line) for line in needs]
    return found


def only(requirements: Iterable[str]) -> str:
    """Python that, run first, hides all other packages of this environment, and clipdemo, from the process."""
    kept = brought_by(requirements)
    hidden = {
        module for module, owners in metadata.packages_distributions().items() if kept.isdisjoint(map(_name, owners))
    }
    return _HOOK.format(forbidden=sorted({*hidden, "clipdemo", "tests", "tools"}))
