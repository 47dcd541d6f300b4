"""Explore: pictures beside their nearest texts and the other way round, for several models at once."""

from clipdemo.ui import cached, explore, live, state, widgets

LEAD = (
    "CLIP puts pictures and texts into one space. See what lies near what: the captions nearest to a picture, the "
    "pictures nearest to any words, before and after fine-tuning."
)

with widgets.page("Explore", LEAD):
    workspace = state.workspace()
    names = workspace.names("samples")
    if job := live.current(workspace, explore.COMMANDS, moving_on=True):
        explore.job_card(workspace, job)
    if not names:
        widgets.empty(
            "**There is no sample to explore yet.** Draw one first; it takes less than a minute.",
            "data", "Draw a sample", ":material/photo_library:",
        )  # fmt: skip
    elif chosen := widgets.choose("sample", names, "Sample"):
        sample = cached.sample(workspace, chosen)
        views = explore.choose_models(workspace, sample)
        if views and explore.prepared(workspace, sample, views):
            explore.look(workspace, sample, views)
        widgets.synthetic_note(sample.synthetic)
