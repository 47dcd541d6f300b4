"""The parts of the Data page."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from clipdemo import charts, commands
from clipdemo.experiment import runs_for
from clipdemo.records import CONTEXT_TOKENS, SPLITS, SampleConfig
from clipdemo.sampling import Sample
from clipdemo.training.runs import readable_runs
from clipdemo.ui import acts, live, roles, sources, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

PICTURES_A_PAGE = 24
_MOST_CHARACTERS = 200  # of the words that captions are searched for
_NAMES = {"sample": ("The drawing", "The last drawing"), "look": ("The look at the source", "The last look")}


def job_line(workspace: Workspace, look: Look) -> None:
    """The look or drawing that is going, or why the last one did not end well."""
    if look.active:
        with st.container(border=True):
            live.watch(workspace, look, lambda now: _draw(workspace, now))
        state.show_in_address("job", look.id)
        return
    if state.asked_for("job") == look.id:  # this visitor asked for it, and it has just ended
        state.show_in_address("job", None)
        if look.state == "finished" and "sample" in look.made:
            state.choose_next("sample", look.made["sample"])
            st.success(f"The sample was drawn in {widgets.clock(look.seconds)}.", icon=":material/check_circle:")
    if look.state != "finished":
        live.outcome(look, _NAMES[look.command][1])


def _draw(workspace: Workspace, look: Look) -> None:
    live.heading(look, workspace, _NAMES[look.command][0])
    live.stages(look, workspace)


def overview(workspace: Workspace, sample: Sample) -> None:
    """Sizes in large type, what can be done with the sample, and the ways on."""
    with st.grid(4, min_column_width=150, gap="small"):
        st.metric("Classes", len(sample.classes) or "–", border=True)
        for split, n in sample.sizes.items():
            st.metric(f"{split.capitalize()} pictures", f"{n:,}", border=True)
    st.markdown(sources.possible(sample.texts))
    with st.container(horizontal=True):
        if st.button("Run the whole experiment on it", icon=":material/play_arrow:", help=_EXPERIMENT):
            _experiment(workspace, sample)
        st.download_button(
            "Download its manifest", lambda: sample.manifest.to_csv(index=False), f"{sample.id}.csv", "text/csv",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        with st.popover("Delete", icon=":material/delete:", disabled=not roles.may("delete")):
            _deletion(workspace, sample)


_EXPERIMENT = "Fine-tunes on captions and on labels, as far as the sample has them, and compares with the base model."


def _experiment(workspace: Workspace, sample: Sample) -> None:
    runs = runs_for(sample.config, settings={"seed": sample.config.seed})
    settings = {
        "sample": sample.config.model_dump(mode="json"),
        "runs": [run.model_dump(mode="json") for run in runs if run.mode in sample.texts],
    }
    job = acts.start(workspace, "experiment", commands.sample_arguments(sample.config), settings)
    st.switch_page(state.PAGES["home"], query_params={"job": job.id})


def _deletion(workspace: Workspace, sample: Sample) -> None:
    """What would be lost, and the button that does it."""
    folders = [name for name in workspace.names("comparisons") if name.startswith(f"{sample.id}-")]
    runs = [run for run in readable_runs(workspace) if run.sample == sample.id]
    st.markdown(
        f"**{widgets.plain(sample.id)}** and its {sum(sample.sizes.values()):,} pictures will be gone for good. The "
        "same settings draw it again, where the source is still there."
    )
    if runs or folders:
        st.markdown(
            f"{len(runs)} runs and {len(folders)} comparisons were made with it. They stay, but cannot be measured "
            "anew."
        )
    if st.button("Delete it for good", icon=":material/delete_forever:", type="primary"):
        acts.delete(workspace, "samples", sample.id)
        st.session_state.pop(state.choice_key("sample"), None)
        state.show_in_address("sample", None)
        state.notice(f"The sample {sample.id} was deleted.")
        st.rerun()


def classes(sample: Sample) -> None:
    """Class frequencies of the cleaned source and of the splits in one chart."""
    if not sample.classes:
        st.info("The sample has no labels, so there are no classes to count.", icon=":material/info:")
        return
    st.plotly_chart(
        charts.class_shares(sample.report), key="shares", config={"displayModeBar": False}, alt="Shares of the classes"
    )
    if sample.report.shortfall:
        missing = ", ".join(f"{label} ({n:,})" for label, n in sample.report.shortfall.items())
        st.warning(
            f"Some classes are too small for an equal share of training, and the others made up for them. "
            f"Missing pictures: {widgets.plain(missing)}.",
            icon=":material/balance:",
        )


def captions(sample: Sample) -> None:
    """How long the captions are, and how many of them CLIP does not read to their end."""
    if "captions" not in sample.texts:
        st.info("The sample has no captions.", icon=":material/info:")
        return
    report = sample.report
    st.plotly_chart(
        charts.caption_lengths(sample.manifest["tokens"].to_numpy()), key="lengths",
        config={"displayModeBar": False}, alt="Lengths of the captions in tokens",
    )  # fmt: skip
    st.markdown(
        f"CLIP reads {CONTEXT_TOKENS} tokens, start and end included: {report.long_captions:,} of {report.sampled:,} "
        f"captions are longer, and their ends go unseen. {report.foreign_captions:,} are not in English, as far as a "
        "language model can tell; CLIP has hardly learned other languages."
    )


def cleaning(workspace: Workspace, sample: Sample) -> None:
    """Where every row of the source went, with a few of them to look at, and the values that one may take back."""
    report = sample.report
    st.dataframe(
        tables.cleaning_table(report),
        hide_index=True,
        height="content",
        column_config=tables.REPORT_COLUMNS,
        alt="Where every row of the source went",
    )
    st.markdown(
        f"The lines add up to {report.rows:,} rows exactly. {report.relabelled:,} kept rows had another spelling of "
        "their class."
    )
    _dropped_pictures(sample)
    _labels(workspace, sample)
    if sample.origin:
        where = " · ".join(f"{name}: {value}" for name, value in sample.origin.items())
        st.caption(f":material/database: {widgets.plain(where)}")
    st.caption(f"Content hash {sample.content_hash[:16]}…: the same on any machine with the same settings.")


def _dropped_pictures(sample: Sample) -> None:
    """Pictures that were left out, beside the one that they repeat."""
    for entry in sample.report.dropped:
        if not entry.pictures:
            continue
        st.markdown(f"**{widgets.plain(entry.reason)}** :gray[· {entry.count:,}, for example]")
        with st.grid("auto", min_column_width=150, gap="small"):
            for image, example in zip(entry.pictures, entry.examples, strict=False):
                left_out, _, twin = example.rpartition(" = ")
                with st.container(gap="xxsmall"):
                    st.image(sample.dropped_picture(image), width="stretch", alt=left_out)
                    st.caption(f"left out: {widgets.plain(left_out)}")
                kept = sample.manifest[sample.manifest["id"] == twin]
                if len(kept):
                    with st.container(gap="xxsmall"):
                        widgets.picture(sample, kept.iloc[0]["image"], twin)
                        st.caption(f"kept: {widgets.plain(twin)}")


def _labels(workspace: Workspace, sample: Sample) -> None:
    """Spellings that were brought together, and values that were taken for no label, to be taken back."""
    report = sample.report
    if report.wordings:
        with st.expander(f"Spellings that were brought together ({sum(map(len, report.wordings.values())):,})"):
            rows = [(text, name, n) for name, found in report.wordings.items() for text, n in found.items()]
            st.dataframe(
                pd.DataFrame(rows, columns=["In the source", "Counts as", "Rows"]), hide_index=True, height=280
            )
    if not report.no_labels:
        return
    with st.expander(f"Values that are no label ({len(report.no_labels):,}): take some back"):
        st.markdown(
            "Write a class beside a value, one of those there are or a new one, and draw the sample again with it."
        )
        frame = pd.DataFrame({"Value": report.no_labels.keys(), "Rows": report.no_labels.values(), "Counts as": ""})
        edited = st.data_editor(
            frame, hide_index=True, height=280, disabled=["Value", "Rows"], key=f"taken back {sample.id}"
        )
        taken = {
            value: name.strip()
            for value, name in zip(edited["Value"], edited["Counts as"], strict=True)
            if name.strip()
        }
        if roles.button("draw", "Draw again with these", icon=":material/undo:", disabled=not taken):
            rules = sample.config.cleaning.model_dump()
            config = SampleConfig(
                **sample.config.model_dump() | {"cleaning": rules | {"synonyms": rules["synonyms"] | taken}}
            )
            settings = {"sample": config.model_dump(mode="json")}
            live.launch(workspace, "sample", commands.sample_arguments(config), settings)


def gallery(sample: Sample) -> None:
    """Pictures with captions, by class, split and words."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        labels = ["All classes", *sample.classes]
        label = st.selectbox("Class", labels, key=state.one_of("class", labels), width=240)
        modalities = ["All modalities", *sorted(set(sample.manifest["modality"]) - {""})]
        modality = st.selectbox("Modality", modalities, key=state.one_of("modality", modalities), width=190)
        splits = ["all", *SPLITS]
        split = st.segmented_control("Split", splits, required=True, key=state.one_of("split", splits))
        words = st.text_input(
            "Words in the caption", placeholder="such as: lesion", width=260, max_chars=_MOST_CHARACTERS,
            key=state.text("words", _MOST_CHARACTERS),
        )  # fmt: skip
    rows = matching(
        sample.manifest,
        words,
        label=None if label == "All classes" else label,
        split=None if split == "all" else split,
        modality=None if modality == "All modalities" else modality,
    )
    st.caption(f"{len(rows):,} of {len(sample.manifest):,} pictures")
    if rows.empty:
        st.info(
            "No picture fits all of these: choose another class, modality or split, or other words.",
            icon=":material/search_off:",
        )
        return
    pages = -(-len(rows) // PICTURES_A_PAGE)
    # another sample or filter starts at its first page
    key = f"{state.GALLERY_PAGE} {sample.id} {label} {modality} {split} {words}"
    page = state.page_of(key, pages)
    first = (page - 1) * PICTURES_A_PAGE
    with st.grid("auto", min_column_width=150, gap="small"):
        for row in rows.iloc[first : first + PICTURES_A_PAGE].itertuples():
            _card(sample, row)
    if pages > 1:
        with st.container(horizontal=True, horizontal_alignment="center"):
            st.pagination(pages, default=page, key=key, max_visible_pages=5)


def _card(sample: Sample, row: tuple) -> None:
    with st.container(gap="xxsmall"):
        widgets.picture(sample, row.image, f"{row.label}, {row.modality}: {row.caption}")
        st.markdown(f"**{widgets.plain(row.label)}**" if row.label else f"**{row.split}**")
        st.caption(" · ".join(widgets.plain(part) for part in (row.split if row.label else "", row.modality) if part))
        short = widgets.shortened(row.caption, 110)
        st.caption(widgets.plain(short), help=None if short == row.caption else widgets.plain(row.caption))


def matching(manifest: pd.DataFrame, words: str, **values: str | None) -> pd.DataFrame:
    """The rows whose columns have these values (None: any) and whose captions hold all words, in any case and order."""
    fits = pd.Series(True, index=manifest.index)
    for column, value in values.items():
        if value is not None:
            fits &= manifest[column] == value
    for word in words.split():
        fits &= manifest["caption"].str.contains(word, case=False, regex=False)
    return manifest[fits]
