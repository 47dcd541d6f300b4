"""Compare: all models on the same test pictures; who is best, by how much, and whether that may be chance."""

import streamlit as st

from clipdemo.ui import compare, live, state, widgets
from clipdemo.ui.compare import board

LEAD = (
    "The same test pictures for all models: what does each of them show? Top-1 counts answers that "
    "are right at once, top-3 those among the model’s first three."
)

with widgets.page("Compare", LEAD):
    workspace = state.workspace()
    names, samples = workspace.names("comparisons"), workspace.names("samples")
    if job := live.current(workspace, compare.COMMANDS):
        compare.job_card(workspace, job)
    if not names:
        widgets.empty(
            "**There is no comparison yet.** Run the whole experiment on Home; it draws a sample, fine-tunes both "
            "models, measures all three and brings you back here.",
            "home", "Run the experiment", ":material/home:",
        )  # fmt: skip
    if names and (chosen := widgets.choose("comparison", names, "Comparison")):
        shown = compare.look_at(workspace, chosen)
        compare.section(shown)
        widgets.synthetic_note(shown.comparison.synthetic)
    if samples:
        st.space("small")
        board.new_comparison(workspace, samples, expanded=not names)
