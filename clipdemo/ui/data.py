"""The parts of the Data page."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from clipdemo import charts, commands
from clipdemo.records import SPLITS, SampleConfig
from clipdemo.sampling import LONG_CAPTION_WORDS, Sample, sample_id
from clipdemo.sources import SOURCES, open_source
from clipdemo.sources.phantom import PhantomSettings
from clipdemo.ui import live, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

PICTURES_A_PAGE = 24
_DEFAULTS = SampleConfig()

# The phantom source's rates: title, what it does, and the highest that makes sense.
_RATES = {
    "bad_labels": (
        "Labels that are none",
        "Empty, sentences, several labels, other languages: they are left out.",
        0.5,
    ),
    "wrong_labels": ("Wrong labels", "Labels of another class: nobody can see it, and they stay in.", 0.5),
    "label_variants": ("Other spellings", "Right labels in other words: cleaning finds their class.", 0.9),
    "placeholders": ("Placeholder captions", "Captions that say nothing, such as “figure legend”.", 0.5),
    "same_case": ("Same case", "Another picture of an earlier patient: never in two splits.", 0.5),
    "duplicates": ("Exact duplicates", "The same picture again.", 0.2),
    "near_duplicates": ("Near-duplicates", "The same picture, slightly changed.", 0.2),
}


def draw_form(workspace: Workspace, expanded: bool) -> None:
    """Settings of a new sample. What cannot work is said before anything starts."""
    panel = st.expander("Draw a new sample", icon=":material/add_photo_alternate:", expanded=expanded)
    with panel, st.form("draw"):
        with st.grid(3, min_column_width=200, gap="small"):
            source = st.selectbox("Source", sorted(SOURCES), help="phantom is built in: drawn pictures, no network.")
            samples = st.number_input("Pictures", 12, 1_000_000, _DEFAULTS.samples, step=256, help="The paper: 4,096.")
            seed = st.number_input("Seed", 0, 2**32 - 1, 0, help="The same settings give the same sample anywhere.")
            fractions = {
                split: st.number_input(
                    f"{split.capitalize()} fraction", 0.0, 1.0, getattr(_DEFAULTS, split), step=0.05, format="%.2f"
                )
                for split in SPLITS
            }
        with st.expander("Settings of the phantom source", icon=":material/tune:"):
            options = _phantom_options()
        pressed = st.form_submit_button("Draw the sample", type="primary", icon=":material/brush:")
    if pressed:
        with widgets.guarded():
            _launch(workspace, SampleConfig(source=source, samples=samples, seed=seed, options=options, **fractions))


def _launch(workspace: Workspace, config: SampleConfig) -> None:
    open_source(config.source, config.seed, config.options)  # complains about options now rather than in the job
    if (name := sample_id(config)) in workspace.names("samples"):
        state.choose_next("sample", name)
        state.notice("This sample had been drawn already: here it is.")
        st.rerun()
    live.launch(workspace, "sample", commands.sample_arguments(config), {"sample": config.model_dump(mode="json")})


def _phantom_options() -> dict[str, int | float]:
    """The options that differ from the source's defaults."""
    default = PhantomSettings()
    with st.grid(3, min_column_width=200, gap="small"):
        chosen = {"rows": st.number_input("Rows of the source", 100, 1_000_000, default.rows, step=1000)}
        for name, (title, explanation, most) in _RATES.items():
            chosen[name] = st.slider(
                title, 0.0, most, getattr(default, name), step=0.01, format="percent", help=explanation
            )
    return {name: value for name, value in chosen.items() if value != getattr(default, name)}


def job_line(workspace: Workspace, look: Look) -> None:
    """The drawing that is going, or why the last one did not end well."""
    if look.active:
        with st.container(border=True):
            live.watch(workspace, look, lambda now: _draw(workspace, now))
        state.show_in_address("job", look.id)
        return
    if state.asked_for("job") == look.id:  # this visitor asked for it, and it has just ended
        state.show_in_address("job", None)
        if look.state == "finished":
            state.choose_next("sample", look.made.get("sample", ""))
            st.success(f"The sample was drawn in {widgets.clock(look.seconds)}.", icon=":material/check_circle:")
    if look.state != "finished":
        live.outcome(look, "The last drawing")


def _draw(workspace: Workspace, look: Look) -> None:
    live.heading(look, workspace, "The drawing")
    live.stages(look, workspace)


def overview(sample: Sample) -> None:
    """Sizes in large type, and what the reader should know before looking closer."""
    with st.grid(4, min_column_width=150, gap="small"):
        st.metric("Classes", len(sample.classes), border=True)
        for split, n in sample.sizes.items():
            st.metric(f"{split.capitalize()} pictures", f"{n:,}", border=True)


def classes(sample: Sample) -> None:
    """Class frequencies of the cleaned source and of the splits in one chart."""
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


def cleaning(sample: Sample) -> None:
    """Where every row of the source went."""
    report = sample.report
    table = tables.cleaning_table(report)
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config={
            "What": st.column_config.TextColumn(width="medium"),
            "Rows": st.column_config.NumberColumn(format="localized", width="small"),
            "For example": st.column_config.TextColumn(width="large"),
        },
        alt="Where every row of the source went",
    )
    st.markdown(
        f"The lines add up to {report.rows:,} rows exactly. {report.relabelled:,} kept rows had another spelling of "
        f"their class, and about {report.long_captions:,} of {report.sampled:,} captions in the sample, those of more "
        f"than {LONG_CAPTION_WORDS} words, are longer than the 77 tokens that CLIP reads, so their ends go unseen."
    )
    st.caption(f"Content hash {sample.content_hash[:16]}…: the same on any machine with the same settings.")


def gallery(sample: Sample) -> None:
    """Pictures with captions, by class, split and words."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox("Class", ["All classes", *sample.classes], width=240)
        split = st.segmented_control("Split", ["all", *SPLITS], default="all", required=True)
        words = st.text_input("Words in the caption", placeholder="such as: lesion", width=260)
    rows = matching(
        sample.manifest, None if label == "All classes" else label, None if split == "all" else split, words
    )
    st.caption(f"{len(rows):,} of {len(sample.manifest):,} pictures")
    if rows.empty:
        st.info(
            "No picture fits all three: choose another class or split, or other words.", icon=":material/search_off:"
        )
        return
    pages = -(-len(rows) // PICTURES_A_PAGE)
    key = f"{state.GALLERY_PAGE} {label} {split} {words}"  # another filter starts at its first page
    first = (st.session_state.get(key, 1) - 1) * PICTURES_A_PAGE
    with st.grid("auto", min_column_width=150, gap="small"):
        for row in rows.iloc[first : first + PICTURES_A_PAGE].itertuples():
            _card(sample, row)
    if pages > 1:
        with st.container(horizontal=True, horizontal_alignment="center"):
            st.pagination(pages, key=key, max_visible_pages=5)


def _card(sample: Sample, row: tuple) -> None:
    with st.container(gap="xxsmall"):
        st.image(sample.picture(row.image), width="stretch", alt=f"{row.label}, {row.modality}: {row.caption}")
        st.markdown(f"**{widgets.plain(row.label)}**")
        st.caption(f"{row.split} · {widgets.plain(row.modality)}")
        short = widgets.shortened(row.caption, 110)
        st.caption(widgets.plain(short), help=None if short == row.caption else widgets.plain(row.caption))


def matching(manifest: pd.DataFrame, label: str | None, split: str | None, words: str) -> pd.DataFrame:
    """The rows of this class and split whose captions hold all the words, in any case and order."""
    fits = pd.Series(True, index=manifest.index)
    if label is not None:
        fits &= manifest["label"] == label
    if split is not None:
        fits &= manifest["split"] == split
    for word in words.split():
        fits &= manifest["caption"].str.contains(word, case=False, regex=False)
    return manifest[fits]
