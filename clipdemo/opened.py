"""Models and classifiers that are open in this process, for everybody who asks: opened once, and never trained."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from clipdemo.comparison import load_comparison
from clipdemo.errors import ClipDemoError
from clipdemo.progress import finish
from clipdemo.records import BUILT_IN_BASE
from clipdemo.workspace import Workspace

if TYPE_CHECKING:
    from clipdemo.classify import Classifier
    from clipdemo.models import Clip

MOST_MODELS = 8
MOST_CLASSIFIERS = 4
_models: OrderedDict[tuple[str, str], Clip] = OrderedDict()
_classifiers: OrderedDict[tuple[str, str], Classifier] = OrderedDict()
_lock = threading.RLock()  # whoever comes while a model is being opened waits for that one


def classifier(workspace: Workspace, comparison: str | None = None) -> Classifier:
    """A comparison's models with all that they need to answer; without one the built-in base.

    Raises `ClipDemoError` where the comparison or its weights are gone.
    """
    from clipdemo.classify import open_classifier

    found = load_comparison(workspace, comparison) if comparison and comparison != BUILT_IN_BASE else None
    key = str(workspace.root), found.model_dump_json() if found else ""
    with _lock:
        if key not in _classifiers:
            _classifiers[key] = finish(open_classifier(workspace, found, model))
        _classifiers.move_to_end(key)
        while len(_classifiers) > MOST_CLASSIFIERS:
            _classifiers.popitem(last=False)
        return _classifiers[key]


def model(base: str, weights: Path | None = None) -> Clip:
    """A model for encoding only, the same one for equal weights. Raises `ModelError`."""
    from clipdemo.models import base_digest, files_digest, open_model

    with _lock:
        key = base, files_digest(weights) if weights else base_digest(base)
        if key not in _models:
            _models[key] = open_model(base, weights)
            gc.freeze()  # what stays need not be looked through at each collection
        _models.move_to_end(key)
        while len(_models) > MOST_MODELS:
            _models.popitem(last=False)
        return _models[key]


def newest(workspace: Workspace) -> str | None:
    """The id of the newest comparison that can be read; None where there is none."""
    for name in workspace.names("comparisons"):
        try:
            return load_comparison(workspace, name).id
        except ClipDemoError:  # damaged, or of an older version
            continue
    return None
