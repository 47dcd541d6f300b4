"""The prompt lab: other sentences for the classes, and what they change, at once."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from clipdemo.errors import BadSettings, ClipDemoError
from clipdemo.records import DEFAULT_TEMPLATE, RunConfig, percent
from clipdemo.ui import cached, state, tables, widgets
from clipdemo.ui.compare.shown import Shown

_MOST_CHARACTERS = 2000  # of all sentences, and of all wordings, in an address
_CLASS, _WORDINGS = "Class", "Called in its sentences"


def draw(shown: Shown) -> None:
    """Sentences and class wordings to edit, with all models' numbers on validation and, asked for, test pictures."""
    if shown.sample is None:
        st.info("The sample was deleted, so its pictures cannot be told from other sentences any more.")
        return
    st.markdown(
        "CLIP tells a class by sentences. Write others and see what they are worth: **texts are encoded again, "
        "pictures never**, so it is quick. Several sentences are averaged, as an ensemble."
    )
    sentences, names = st.columns([1, 1], gap="medium")
    with sentences:
        template = _template()
    with names:
        wordings = _wordings(shown)
    on_test = st.toggle(
        "Show test pictures too", key=state.switched("on_test"),
        help="Sentences are chosen on validation pictures. Whoever chooses them by test numbers has no test left.",
    )  # fmt: skip
    if template is None:
        return
    rows = {split: _numbers(shown, template, wordings, split) for split in ("validation", "test")[: 1 + on_test]}
    for split, frame in rows.items():
        st.markdown(f"**{split.capitalize()} pictures** :gray[· n = {shown.comparison.sizes[split]:,}]")
        st.table(frame, border="horizontal", hide_index=True)
    st.caption(
        "In brackets: points against the sentences that the models were measured with. A captions or labels model was "
        "fine-tuned with its own sentence, and often likes it best."
    )


def _template() -> str | None:
    """The sentences, one a line, as a template; None, with the reason, where they cannot work."""
    state.view("sentences", state.SENTENCES, DEFAULT_TEMPLATE, _asked_sentences, _lines)
    text = st.text_area("Sentences, one a line", height=175, key=state.SENTENCES, help="Each holds {label} once.")
    template = "|".join(_lines(text))
    return template if widgets.checked(lambda: _checked(template)) else None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _asked_sentences(lines: list[str]) -> str | None:
    """The sentences of an address, one a line; None where they are none."""
    text = "\n".join(lines)
    if len(text) > _MOST_CHARACTERS or not all(state.readable(line, _MOST_CHARACTERS) for line in lines):
        return None
    try:
        _checked("|".join(_lines(text)))
    except ClipDemoError:
        return None
    return text


def _checked(template: str) -> RunConfig:
    if not template:
        raise BadSettings("write at least one sentence that holds {label}")
    return RunConfig(mode="labels", template=template)


def _wordings(shown: Shown) -> dict[str, tuple[str, ...]]:
    """What each class is called, where somebody has changed it; several names, divided by a semicolon."""
    classes, key = list(shown.sample.classes), f"wordings {shown.comparison.sample}"
    if asked := _asked_wordings(state.asked_view("wordings"), classes):
        st.session_state[f"{key} at first"] = asked
    start = st.session_state.get(f"{key} at first", {})  # the same at every run, for the editor keeps changes to it
    edited = st.data_editor(
        pd.DataFrame({_CLASS: classes, _WORDINGS: [start.get(label, label.lower()) for label in classes]}),
        hide_index=True, height=215, disabled=[_CLASS], key=key,
        column_config={_WORDINGS: st.column_config.TextColumn(help="Several, divided by ;, are averaged.")},
    )  # fmt: skip
    found = {}
    for label, text in zip(edited[_CLASS], edited[_WORDINGS], strict=True):
        names = tuple(name.strip() for name in str(text or "").split(";") if name.strip())
        if names and names != (label.lower(),):
            found[label] = names
    says = [f"{label}: {'; '.join(names)}" for label, names in found.items()]
    state.show_in_address("wordings", says if says and _asked_wordings(says, classes) else None)
    return found


def _asked_wordings(says: list[str], classes: list[str]) -> dict[str, str]:
    """What an address calls classes: "Foot: a foot; toes"; nothing of what is not about a class."""
    if sum(map(len, says)) > _MOST_CHARACTERS or not all(state.readable(line, _MOST_CHARACTERS) for line in says):
        return {}
    return {label: line[len(label) + 2 :] for line in says for label in classes if line.startswith(f"{label}: ")}


def _numbers(shown: Shown, template: str, wordings: dict[str, tuple[str, ...]], split: str) -> pd.DataFrame:
    """Top-1, top-3 and macro top-1 a model, with the change against the saved sentences."""
    rows = []
    for model in shown.comparison.models:
        now = cached.reworded(shown.workspace, model, shown.sample, template, wordings, split, shown.without)
        before = cached.reworded(shown.workspace, model, shown.sample, model.template, {}, split, shown.without)
        row = {"Model": tables.signed(shown.looks[model.predictions])}
        for name in ("Top-1", "Top-3", "Macro top-1"):
            change = tables.points(now[name] - before[name])
            row[name] = tables.unbroken(f"{percent(now[name])} ({change})")
        rows.append(row)
    return pd.DataFrame(rows)
