"""A run as a folder that open_clip loads by itself: weights, configuration, tokenizer and a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from clipdemo.errors import ModelError
from clipdemo.export.card import model_card
from clipdemo.export.facts import Facts
from clipdemo.export.folder import new_export
from clipdemo.models import BUILT_IN_FOLDER, Clip, open_model
from clipdemo.progress import Activity, Progress
from clipdemo.records import BUILT_IN_BASE, Comparison
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, write_json

# The names that open_clip looks for
WEIGHTS, CONFIG, CARD = "open_clip_model.safetensors", "open_clip_config.json", "README.md"

_PROBES = ("a chest", "Axial CT, T2-weighted; the left lung’s “nodule” (3.5 cm).", "ÄÖ 胸部 1/2", "word " * 99)


def export_model(run: Run, workspace: Workspace, folder: Path, comparison: Comparison | None = None) -> Activity[Path]:
    """Writes the run's weights for open_clip, with a card, and returns the folder.

    `comparison` is the one whose table stands in the card; without it the newest that measured these weights. Before
    the folder gets its name, open_clip opens it and has to give the same features bit for bit. Raises `ModelError`
    where it does not, and what `Facts.of` and `new_export` raise.
    """
    facts = Facts.of(run, workspace, comparison)
    with new_export(folder, "model", run.id) as new:
        yield from write_model(facts, new)
    return folder.expanduser().absolute()


def write_model(facts: Facts, folder: Path) -> Activity[Clip]:
    """Fills an empty folder, and returns the model that was written, on the CPU."""
    import open_clip

    run = facts.run
    yield Progress(stage="export", done=0, total=3, note="opening the model")
    clip = open_model(run.config.base, run.weights)
    network = clip.network.cpu()
    yield Progress(stage="export", done=1, total=3, note="writing the weights")
    shutil.copyfile(run.weights, folder / WEIGHTS)
    seen = open_clip.get_model_preprocess_cfg(network)
    config = {
        "model_cfg": open_clip.get_model_config(_config_name(run.config.base)),
        "preprocess_cfg": {name: value for name, value in seen.items() if name != "size"},  # the tower's own
    }
    write_json(folder / CONFIG, config)
    if hasattr(clip.tokenizer, "save_pretrained"):  # open_clip's own needs no file
        clip.tokenizer.save_pretrained(folder)
    (folder / CARD).write_text(model_card(facts), encoding="utf-8")
    yield Progress(stage="export", done=2, total=3, note="checking that open_clip gives the same")
    _check_same(clip, folder, run)
    yield Progress(stage="export", done=3, total=3)
    return clip


def _config_name(base: str) -> str:
    """By which open_clip knows the configuration of a base."""
    if base == BUILT_IN_BASE:
        return f"local-dir:{BUILT_IN_FOLDER}"
    if base.startswith(("hf-hub:", "local-dir:")):
        return base
    return base.partition(":")[0].replace("/", "-")


def _check_same(clip: Clip, folder: Path, run: Run) -> None:
    """Raises `ModelError` unless the folder's model sees pictures and texts exactly as the run's does."""
    import open_clip
    import torch

    name = f"local-dir:{folder}"
    try:
        other, _, _ = open_clip.create_model_and_transforms(name)
        tokens = clip.tokens(_PROBES), open_clip.get_tokenizer(name)(list(_PROBES))
    except Exception as error:  # open_clip, huggingface_hub and safetensors each raise their own
        raise ModelError(
            f"run {run.id} cannot be exported: open_clip does not open what was written ({error})"
        ) from None
    pictures = torch.rand(2, 3, clip.image_size, clip.image_size, generator=torch.Generator().manual_seed(0))
    networks = clip.network, other.eval()
    with torch.inference_mode():
        checks = {
            "tokenizer": tokens,
            "images": [network.encode_image(pictures) for network in networks],
            "texts": [network.encode_text(own) for network, own in zip(networks, tokens, strict=True)],
            "temperature": [network.logit_scale for network in networks],
        }
    differ = [what for what, (a, b) in checks.items() if not torch.equal(a, b)]
    # as JSON, which has no tuples
    settings = [json.dumps(open_clip.get_model_preprocess_cfg(network), sort_keys=True) for network in networks]
    if differ or settings[0] != settings[1]:
        raise ModelError(
            f"run {run.id} cannot be exported: loaded again, its {' and '.join(differ) or 'preprocessing'} would not "
            f"be the same; open_clip's folder cannot say all that base {run.config.base!r} is made of"
        )
