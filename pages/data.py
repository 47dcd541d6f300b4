"""Data: draw a sample or choose one; its classes, its cleaning report, its pictures."""

import streamlit as st

from clipdemo.ui import cached, data, live, sources, state, widgets

LEAD = (
    "A sample is cleaned, split 80-10-10 and kept: training has the same number of each class, validation and test "
    "follow the source. No picture, no near-duplicate and no patient stands on both sides of a split."
)

with widgets.page("Data", LEAD):
    workspace = state.workspace()
    names = workspace.names("samples")
    job = live.current(workspace, ["sample", "look"])
    sources.new_sample(workspace, expanded=not names)
    if job:
        data.job_line(workspace, job)
    chosen = widgets.choose("sample", names, "Sample") if names else None
    if not names:
        st.info("There is no sample yet: draw one above, or run the whole experiment on Home.", icon=":material/info:")
    if chosen:
        sample = cached.sample(workspace, chosen)
        data.overview(workspace, sample)
        tabs = ["Classes", "Captions", "Cleaning", "Pictures"]
        shares, lengths, report, pictures = st.tabs(tabs, key=state.one_of("section", tabs), on_change="rerun")
        with shares:
            data.classes(sample)
        with lengths:
            data.captions(sample)
        with report:
            data.cleaning(workspace, sample)
        with pictures:
            data.gallery(sample)
        widgets.synthetic_note(sample.synthetic)
