"""Train: fine-tune one CLIP on a sample, watch it learn, and look at earlier runs."""

from clipdemo import queues
from clipdemo.ui import cached, live, state, train, widgets

LEAD = (
    "Fine-tuning goes on with CLIP’s own pretraining loss: each picture is drawn to its text and away from the other "
    "texts of its batch. The text is the picture’s caption, or a sentence made of its label."
)

with widgets.page("Train", LEAD):
    workspace = state.workspace()
    names = workspace.names("samples")
    if not names:
        widgets.empty(
            "**There is no sample to train on yet.** Draw one first; it takes less than a minute.",
            "data", "Draw a sample", ":material/photo_library:",
        )  # fmt: skip
    elif chosen := widgets.choose("sample", names, "Sample"):
        sample = cached.sample(workspace, chosen)
        job = live.current(workspace, queues.TRAINING, moving_on=True)
        if job:
            train.job_card(workspace, job)
        busy = bool(job and job.active)
        train.queue(workspace)
        runs = train.runs_of_sample(workspace, sample.id)
        train.launch_form(workspace, sample, runs)
        train.past_runs(workspace, sample, runs, with_curves=not busy)
        widgets.synthetic_note(sample.synthetic)
