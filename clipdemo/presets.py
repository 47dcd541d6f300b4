"""Named settings for runs. What is not named here is `RunConfig`'s default."""

from __future__ import annotations

from collections.abc import Mapping

from clipdemo.errors import BadSettings
from clipdemo.records import Mode, RunConfig, paper_learning_rate

# "paper": the paper's loss and its rule for the learning rate. "plain": the same loss with a rate that suits the base.
PRESETS: dict[str, dict[Mode, dict[str, object]]] = {
    "paper": {mode: {"learning_rate": paper_learning_rate(64)} for mode in ("captions", "labels")},
    "plain": {"captions": {}, "labels": {}},
}


def preset(name: str, mode: Mode) -> dict[str, object]:
    """The settings of `RunConfig` that a preset sets for this mode. Raises `BadSettings` for an unknown one."""
    if name not in PRESETS:
        raise BadSettings(f"preset = {name!r} is not known: choose one of {', '.join(PRESETS)}")
    return dict(PRESETS[name][mode])


def configured(name: str, mode: Mode, settings: Mapping[str, object]) -> RunConfig:
    """The preset's run with whatever of `settings` is not `RunConfig`'s default."""
    fields = RunConfig.model_fields
    changed = {key: value for key, value in settings.items() if key != "mode" and value != fields[key].default}
    return RunConfig(mode=mode, **preset(name, mode) | changed)
