"""A run as a Space: a folder with a small Gradio app, the model and its labels, which needs nothing of clipdemo."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from pathlib import Path

from clipdemo.export.card import licence, words
from clipdemo.export.facts import Facts
from clipdemo.export.folder import new_export
from clipdemo.export.model import write_model
from clipdemo.images import decode
from clipdemo.models import ASSETS, Clip
from clipdemo.progress import Activity
from clipdemo.prompts import prompts_of
from clipdemo.records import Comparison, percent
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, write_json

TEMPLATE = ASSETS / "space"
_COPIED = ("app.py", "requirements.txt")
_EXAMPLES = 4  # pictures


def export_space(run: Run, workspace: Workspace, folder: Path, comparison: Comparison | None = None) -> Activity[Path]:
    """Writes an app around the run's weights, and returns the folder.

    Test pictures are put in as examples where they are synthetic, and never else. Arguments and errors are those of
    `export_model`.
    """
    facts = Facts.of(run, workspace, comparison)
    with new_export(folder, "space", run.id) as new:
        (new / "model").mkdir()
        clip = yield from write_model(facts, new / "model")
        for name in _COPIED:
            shutil.copyfile(TEMPLATE / name, new / name)
        write_json(new / "labels.json", _labels(facts, clip))
        _write_examples(facts, new / "examples")
        (new / "README.md").write_text(_readme(facts), encoding="utf-8")
    return folder.expanduser().absolute()


def _labels(facts: Facts, clip: Clip) -> dict[str, object]:
    """What the app reads. The logit scale is the one fitted on validation pictures where the run was measured."""
    fitted = facts.evaluation.validation_logit_scale if facts.evaluation else None
    return {
        "title": facts.run.name,
        "about": f"# {words(facts.run.name)}\n\n{_about(facts)}",
        "template": facts.template,
        "labels": {label: prompts_of(label, facts.template) for label in facts.sample.classes},
        "logit_scale": fitted or clip.logit_scale,
    }


def _about(facts: Facts) -> str:
    """What the app says about itself, as Markdown."""
    parts = [f"A CLIP, fine-tuned on {facts.run.config.mode}. **For teaching and research. Not for diagnosis.**"]
    if facts.sample.synthetic:
        parts.append("It learned from synthetic pictures, drawn by a program.")
    if (standing := facts.standing) and (found := standing.top1):
        limits = f"95 % interval {percent(found.low)} to {percent(found.high)}"
        parts.append(f"Right in first place on {percent(found.value)} of {found.n:,} test pictures ({limits}).")
    parts.append("It always chooses one of the labels, even where none of them fits.")
    return " ".join(parts)


def _write_examples(facts: Facts, folder: Path) -> None:
    """The first test picture of a few classes, if the pictures are of nobody."""
    if not facts.sample.synthetic:
        return
    folder.mkdir()
    rows = facts.sample.rows("test").drop_duplicates("label")[:_EXAMPLES]
    for i, image in enumerate(rows["image"]):
        decode(facts.sample.picture(image), image).save(folder / f"{i + 1}.png")


def _readme(facts: Facts) -> str:
    from huggingface_hub import SpaceCardData

    data = SpaceCardData(
        **licence(facts),
        title=facts.run.name,
        emoji="🔎",
        colorFrom="blue",
        colorTo="gray",
        sdk="gradio",
        sdk_version=metadata.version("gradio"),
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        pinned=False,
        short_description="A fine-tuned CLIP. Not for diagnosis.",
        tags=["clip", "clipdemo"],
    )
    return f"---\n{data.to_yaml()}\n---\n\n# {words(facts.run.name)}\n\n{_about(facts)}\n\n{_RUNNING}"


_RUNNING = """\
The model, how it was made and how it was measured: `model/README.md`. It runs on a Space's free hardware, or here:

```sh
pip install -r requirements.txt
python app.py
```

Ask it from a program:

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")  # or OWNER/NAME of the Space
client.predict(handle_file("picture.png"), "", api_name="/classify")  # or own labels, one a line
```
"""
