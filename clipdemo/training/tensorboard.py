"""A run's curves as TensorBoard event files, for those who look there."""

from __future__ import annotations

import shutil
from pathlib import Path

from clipdemo.training.runs import Run

# Names as TensorBoard groups them, and the fields of `Step` behind them.
TAGS = {
    "loss/training": "training_loss",
    "loss/validation": "validation_loss",
    "validation/top1": "validation_top1",
    "optimizer/learning_rate": "learning_rate",
    "model/logit_scale": "logit_scale",
}


def write_events(run: Run) -> Path:
    """Writes all that was measured so far into the run's folder `tensorboard`, anew; the folder's path.

    Steps are optimizer steps; seconds count from the run's beginning.
    """
    from tensorboardX import SummaryWriter

    folder = run.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        for step in run.steps():
            for tag, field in TAGS.items():
                if (value := getattr(step, field)) is not None:
                    writer.add_scalar(tag, value, step.step, walltime=step.seconds)
    return folder
