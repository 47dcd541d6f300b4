"""Named settings for runs. What is not named here is `RunConfig`'s default."""

from __future__ import annotations

from collections.abc import Mapping

from clipdemo.errors import BadSettings
from clipdemo.records import MODES, Mode, RunConfig, paper_learning_rate

# "paper": the paper's loss and its rule for the learning rate. "plain": the same loss with a rate that suits the base.
# "quick" and "thorough" are plain with fewer passes and with more of them, as long as validation gets better.
PRESETS: dict[str, dict[Mode, dict[str, object]]] = {
    "plain": {mode: {} for mode in MODES},
    "quick": {mode: {"epochs": 2} for mode in MODES},
    "thorough": {mode: {"epochs": 16, "patience": 3} for mode in MODES},
    "paper": {mode: {"learning_rate": paper_learning_rate(64)} for mode in MODES},
}
ENOUGH_STEPS = 204  # of the plain recipe on the paper's 3,276 training pictures
MOST_EPOCHS = 16


def preset(name: str, mode: Mode, training_pictures: int | None = None) -> dict[str, object]:
    """The settings of `RunConfig` that a preset sets for this mode. Raises `BadSettings` for an unknown one.

    "plain" passes over few pictures more often: on 816 pictures, four passes of captions end below the base model.
    """
    if name not in PRESETS:
        raise BadSettings(f"preset = {name!r} is not known: choose one of {', '.join(PRESETS)}")
    settings = dict(PRESETS[name][mode])
    if name == "plain" and training_pictures:
        settings["epochs"] = enough_epochs(training_pictures)
    return settings


def enough_epochs(training_pictures: int) -> int:
    """Passes over so many pictures that make about `ENOUGH_STEPS` steps: 4 at least and `MOST_EPOCHS` at most."""
    default = RunConfig(mode="labels")
    steps = max(1, training_pictures // default.batch_size)
    return min(MOST_EPOCHS, max(default.epochs, round(ENOUGH_STEPS / steps)))


def configured(
    name: str, mode: Mode, settings: Mapping[str, object], training_pictures: int | None = None
) -> RunConfig:
    """The preset's run with `settings` over it."""
    given = {key: value for key, value in settings.items() if key != "mode"}
    return RunConfig(mode=mode, **preset(name, mode, training_pictures) | given)


def warnings(config: RunConfig, training_pictures: int) -> list[str]:
    """What is known to ruin a run with such settings, in plain words; nothing where nothing is known."""
    steps = config.epochs * max(1, training_pictures // min(config.batch_size, max(1, training_pictures)))
    found = []
    if config.learning_rate >= 3e-3 and config.tune != "lora":
        found.append(
            f"A learning rate of {config.learning_rate:g} usually destroys what the base has learned: "
            f"{RunConfig(mode=config.mode).learning_rate:g} is a good start."
        )
    if config.learning_rate * steps < 2e-3 and config.tune != "lora":
        found.append(
            f"{steps:,} steps at {config.learning_rate:g} hardly move the weights: expect numbers near the base's."
        )
    if config.batch_size < 8:
        found.append(
            f"Of {config.batch_size} pairs a picture is told from {config.batch_size - 1} other texts only: "
            "contrastive learning needs more."
        )
    if config.batch_size > training_pictures:
        found.append(f"The batch is larger than the {training_pictures:,} training pictures: all make one step.")
    if config.mode == "captions" and config.loss == "multi-positive":
        found.append("Multi-positive captions are told the labels: this is no fine-tuning on captions alone any more.")
    return found
