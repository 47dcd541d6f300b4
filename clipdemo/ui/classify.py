"""The parts of the Classify page. Pictures that somebody drops stay in memory, and go when the session ends."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import streamlit as st
from PIL import Image

from clipdemo.classify import (
    Answer,
    Classifier,
    Result,
    accuracies,
    answers_csv,
    batch_table,
    classified,
    doubt,
    refused_csv,
    refused_table,
    typed,
)
from clipdemo.drop import Dropped, Given, Refused, read_drop
from clipdemo.records import percent
from clipdemo.ui import cached, looked, roles, state, tables, widgets
from clipdemo.workspace import Workspace

MOST_MEGABYTES = 200  # of one upload; it lies in the server's memory
_LABELS_CHARACTERS, _SENTENCE_CHARACTERS = 4000, 300  # that somebody may write
_WAYS = {
    "drop": ":material/upload: Pictures or ZIP archives",
    "folder": ":material/folder: A folder",
    "camera": ":material/photo_camera: Camera",
    "example": ":material/image: An example",
}
_EXAMPLES = 8
_TABLE_PIXELS = 72


@dataclass
class Classified:
    """What came of the last drop, kept for this session."""

    key: tuple
    results: list[Result] = field(default_factory=list)
    thumbnails: dict[str, bytes] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    junk: int = 0


def choose_classifier(workspace: Workspace) -> Classifier:
    """The models of a comparison, or the built-in base, with the classes that are asked about."""
    names = workspace.names("comparisons")
    chosen = widgets.choose("comparison", names, "Models of the comparison") if names else None
    if not names:
        st.caption(
            "There is no comparison in this workspace yet, so the built-in base model answers alone. Run the "
            "experiment on Home to see what fine-tuning changes."
        )
    return _with_labels(cached.classifier(workspace, chosen))


def _with_labels(classifier: Classifier) -> Classifier:
    """The classes of the sample, or those that somebody types."""
    labels, sentence = state.text("labels", _LABELS_CHARACTERS), state.text("sentence", _SENTENCE_CHARACTERS)
    own = bool(st.session_state[labels] or st.session_state[sentence])
    with st.expander("Own labels and sentence", icon=":material/edit_note:", expanded=own):
        left, right = st.columns(2)
        text = left.text_input(
            "Labels, divided by commas", key=labels, max_chars=_LABELS_CHARACTERS,
            placeholder=", ".join(classifier.classes[:4]),
            help="The models have never been told about them: zero-shot. Left empty, the sample’s classes.",
        )  # fmt: skip
        template = right.text_input(
            "Sentence of a label", key=sentence, max_chars=_SENTENCE_CHARACTERS,
            placeholder=classifier.models[0].template,
            help="With {label} where the label stands. Several, divided by |, are averaged.",
        )  # fmt: skip
    return widgets.checked(lambda: typed(classifier, text, template)) or classifier


# ---- what is given


def pictures_given(workspace: Workspace, classifier: Classifier) -> tuple[tuple, list[Given]]:
    """What somebody dropped, took or clicked, and a key that is another for other pictures."""
    way = st.segmented_control(
        "Pictures from", list(_WAYS), required=True, format_func=_WAYS.get,
        key=state.one_of("section", list(_WAYS), key=state.PICTURES_FROM),
    )  # fmt: skip
    if way == "example":
        return _example(workspace, classifier)
    if way == "camera":
        taken = st.camera_input("Take a picture", label_visibility="collapsed")
        return ((taken.file_id,), [("camera.jpg", taken)]) if taken else ((), [])
    most = min(MOST_MEGABYTES, roles.rules().limits.upload_megabytes if roles.rules().hosted else MOST_MEGABYTES)
    files = st.file_uploader(
        "Drop or paste pictures: one, hundreds, or ZIP archives" if way == "drop" else "Choose or drop a folder",
        accept_multiple_files=True if way == "drop" else "directory", max_upload_size=most, key=f"given {way}",
        help="PNG, JPEG, WebP, TIFF, BMP, GIF and DICOM. They stay in memory and are never kept.",
    )  # fmt: skip
    if files:
        roles.rules().check_upload(sum(file.size for file in files))
    return tuple(file.file_id for file in files), [(file.name, file) for file in files]


def _example(workspace: Workspace, classifier: Classifier) -> tuple[tuple, list[Given]]:
    """Pictures to click: of the sample's test split where there is one, else drawn by the program."""
    examples = cached.examples(workspace, classifier.name, _EXAMPLES)
    chosen = st.session_state[state.one_of("picture", [None, *examples], key=state.EXAMPLE)]
    with st.grid(_EXAMPLES, min_column_width=110, gap="xsmall") as grid:
        for name, data in examples.items():
            with grid.cell():
                st.image(data, width="stretch", alt=name)
                if st.button("Ask", key=f"example {name}", width="stretch"):
                    st.session_state[state.EXAMPLE] = chosen = name
                    state.show_in_address("picture", name)
    return ((classifier.name, chosen), [(chosen, examples[chosen])]) if chosen in examples else ((), [])


def answered(classifier: Classifier, key: tuple, given: Sequence[Given]) -> Classified:
    """All answers to what was given: computed once for a drop, with a bar while that takes a moment."""
    key = (*key, classifier.name, classifier.classes, tuple(model.template for model in classifier.models))
    kept: Classified | None = st.session_state.get(state.ANSWERS)
    if kept is not None and kept.key == key:
        return kept
    found = Classified(key)
    reading = _Counted(given, classifier.sizes, found)
    bar = st.empty()
    for number, one in enumerate(classified(classifier, reading), start=1):
        if isinstance(one, Refused):
            found.refused.append(one)
        else:
            found.results.append(one)
        if number % 16 == 0:
            bar.progress(min(1.0, number / max(number, len(given))), f"{number:,} files read")
    bar.empty()
    found.junk = reading.junk
    st.session_state[state.ANSWERS] = found
    return found


class _Counted:
    """Pictures as they are read; their thumbnails stay, their pixels go once they are answered."""

    def __init__(self, given: Sequence[Given], sizes: Sequence[int], into: Classified) -> None:
        self._given, self._sizes, self._into, self.junk = given, sizes, into, 0

    def __iter__(self) -> object:
        reading = read_drop(self._given, self._sizes)
        while True:
            try:
                one = next(reading)
            except StopIteration as end:
                self.junk = end.value
                return
            if isinstance(one, Dropped):
                self._into.thumbnails[one.name] = one.thumbnail
            yield one


# ---- what is shown


def show(classifier: Classifier, found: Classified, given: Sequence[Given]) -> None:
    """One picture's answers in full; of many, a table, and in full the one that is chosen there."""
    refused(found)
    if not found.results:
        return
    result = found.results[0] if len(found.results) == 1 else _table(classifier, found)
    if result is not None:
        _full(classifier, result, found, given)


def refused(found: Classified) -> None:
    """Every file that could not be used, with its reason."""
    if found.junk:
        st.caption(f"{found.junk:,} files that operating systems leave behind were skipped.")
    if len(found.refused) == 1:
        st.error(widgets.plain(found.refused[0].message), icon=":material/error:")
    elif found.refused:
        with st.expander(f"{len(found.refused):,} files could not be used", icon=":material/error:"):
            st.dataframe(refused_table(found.refused), hide_index=True, width="stretch")
            st.download_button(
                "All of these as CSV", refused_csv(found.refused), "refused.csv", "text/csv",
                icon=":material/download:", on_click="ignore",
            )  # fmt: skip


def _full(classifier: Classifier, result: Result, found: Classified, given: Sequence[Given]) -> None:
    st.subheader(widgets.plain(result.agreement), anchor=False)
    if result.familiar is False:
        st.warning(f"**None of these?** {doubt(classifier)}", icon=":material/help:")
    left, right = st.columns([1, 3], gap="medium")
    with left:
        st.image(found.thumbnails[result.name], width="stretch", alt="the picture")
        st.caption(widgets.plain(widgets.shortened(result.name, 60)))
        if result.label:
            st.caption(f"Its name says **{widgets.plain(result.label)}**.")
    with right, st.grid(len(classifier.models), min_column_width=230, gap="small") as grid:
        for model, answer in zip(classifier.models, result.answers, strict=True):
            with grid.cell(), st.container(border=True, height="stretch"):
                st.markdown(f"**{tables.signed(model.look)}**")
                _bars(answer)
                _reasons(answer)
    looked.draw(classifier, result, found.thumbnails[result.name], given)


def _bars(answer: Answer) -> None:
    for ranked in answer.labels:
        share = tables.unbroken(percent(ranked.probability, 0))
        st.progress(ranked.probability, f"{widgets.plain(ranked.label)} **{share}**")


def _reasons(answer: Answer) -> None:
    if not answer.captions:
        return
    st.caption("Looks to it like")
    lines = (f"- {widgets.plain(widgets.shortened(c.text, 90))} :gray[{c.score:.2f}]" for c in answer.captions)
    st.markdown("\n".join(lines))


def _table(classifier: Classifier, found: Classified) -> Result | None:
    """All pictures, to be sorted, filtered and downloaded; the one that is chosen, if any."""
    results = found.results
    _accuracies(results)
    unsure, strange = _disagree(results), [r for r in results if r.familiar is False]
    wrong = [r for r in results if r.label and any(a.labels[0].label != r.label for a in r.answers if a.labels)]
    ways = {"all": results, "the models disagree": unsure, "none of these?": strange, "somebody is wrong": wrong}
    counts = {way: len(of) for way, of in ways.items() if of}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        way = st.segmented_control(
            "Show", list(counts), default="all", required=True, format_func=lambda w: f"{w} ({counts[w]:,})",
        )  # fmt: skip
        said = sorted({a.labels[0].label for r in ways[way] for a in r.answers if a.labels})
        only = st.multiselect("Called by any model", said, width=300)
    shown = [r for r in ways[way] if not only or any(a.labels and a.labels[0].label in only for a in r.answers)]
    table = batch_table(shown)
    if table.empty:
        st.info("No picture fits all of these.", icon=":material/search_off:")
        return None
    table.insert(0, "picture", [_address(found.thumbnails[r.name]) for r in shown])
    event = st.dataframe(
        table, hide_index=True, width="stretch", row_height=_TABLE_PIXELS + 8, height=520, on_select="rerun",
        selection_mode="single-row", key=f"answers {way} {only}", column_config=_columns(table),
    )  # fmt: skip
    st.caption("Choose a row to see its answers in full. A click on a column’s head sorts.")
    st.download_button(
        "All answers as CSV", answers_csv(results), "answers.csv", "text/csv", icon=":material/download:",
        on_click="ignore",
    )  # fmt: skip
    rows = event["selection"]["rows"]
    return shown[rows[0]] if rows and rows[0] < len(shown) else None


def _disagree(results: Sequence[Result]) -> list[Result]:
    return [r for r in results if len({a.labels[0].label for a in r.answers if a.labels}) > 1]


def _accuracies(results: Sequence[Result]) -> None:
    found = accuracies(results)
    if not found:
        return
    with st.grid(len(found), min_column_width=200, gap="small") as grid:
        for one in found:
            with grid.cell(), st.container(border=True):
                st.metric(widgets.plain(one.title), percent(one.right / one.n))
                st.caption(
                    f"{one.right:,} of {one.n:,} as their names say · 95 %: {percent(one.low)} to {percent(one.high)}"
                )


def _columns(table: pd.DataFrame) -> dict[str, object]:
    columns: dict[str, object] = {"picture": st.column_config.ImageColumn("", width=_TABLE_PIXELS + 16)}
    for name in table.columns:
        if name.endswith(" probability"):
            columns[name] = st.column_config.ProgressColumn("sure", format="percent", min_value=0, max_value=1)
    return columns


def _address(thumbnail: bytes) -> str:
    """A smaller JPEG as a data address, so that some hundreds of rows stay light."""
    image = Image.open(io.BytesIO(thumbnail))
    image.thumbnail((_TABLE_PIXELS, _TABLE_PIXELS))
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"
