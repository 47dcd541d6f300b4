"""Home: the question, the pipeline as a picture, the one button, and where one stands."""

import streamlit as st

from clipdemo.ui import home, live, state, widgets

LEAD = (
    "CLIP learned from pictures and their captions on the web. How much better does it get at *your* pictures when it "
    "is fine-tuned on captions that came for free, and how much better still on labels that somebody had to pay for? "
    "Here you find out by doing it: draw a sample, fine-tune one CLIP on each, and compare both with the base model."
)

with widgets.page("What do labels buy that captions don’t?", LEAD):
    workspace = state.workspace()
    job = live.current(workspace, ["experiment"])
    watching = bool(job and (job.active or state.asked_for("job") == job.id))
    if watching:
        home.experiment_card(workspace, job)
    st.image(home.PIPELINE, width="stretch", alt="One sample, three models (base, captions, labels), one test")
    if job and not watching:
        home.experiment_card(workspace, job)
    if not (job and job.active):
        home.launch_form(workspace, again=job is not None)
    home.where_one_stands(workspace)
    widgets.synthetic_note(True)
