"""The loop: batch, loss, backward, step, report. It yields progress, and may be left at any yield."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from safetensors.torch import save

from clipdemo.errors import TrainingError
from clipdemo.evaluation import top_k_accuracy
from clipdemo.models import Clip, open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity, Progress
from clipdemo.prompts import prompts_for
from clipdemo.records import RunConfig, RunResult, Split, Step
from clipdemo.sampling import Sample
from clipdemo.training.losses import contrastive_loss
from clipdemo.training.runs import Run, begin_run, load_run, run_id
from clipdemo.training.schedule import batches, learning_rate_at
from clipdemo.workspace import Workspace, atomic_write, disk_errors, write_json

MAX_LOGIT_SCALE = 100.0  # as in CLIP's pretraining: temperature never below 0.01
REPORT_STEPS = 4  # steps a line of metrics.jsonl
VALIDATION_BATCH = 256


def train(config: RunConfig, sample: Sample, workspace: Workspace) -> Activity[Run]:
    """Fine-tunes one CLIP on the sample's training split and keeps the epoch with the best validation top-1.

    A run that is finished already is found, not repeated. Leaving the generator early (stop, Ctrl-C) keeps the best
    epoch so far, marked as stopped. Raises `TrainingError` when the loss stops being a number.
    """
    name = run_id(config, sample)
    with workspace.lock(f"run-{name}"):
        if (
            not (workspace.folder("runs", name) / "result.json").exists()
            or load_run(workspace, name).result.state != "finished"
        ):
            yield Progress(stage=config.mode, done=0, total=1, note="opening the base model")
            torch.manual_seed(config.seed)
            clip = open_model(config.base)
            pixels = yield from sample_pixels(sample, clip.image_size, workspace)
            run = begin_run(config, sample, workspace)
            yield from _Training(run, clip, _Pairs(config, sample, clip, pixels)).run()
    run = load_run(workspace, name)
    best = run.result
    note = f"best: epoch {best.best_epoch}, {100 * best.best_validation_top1:.1f} % of validation"
    yield Progress(stage=config.mode, done=best.steps, total=best.steps, note=note)
    return run


@dataclass
class _Pairs:
    """Pictures and the texts that they are paired with: their captions, or a sentence made of their label."""

    config: RunConfig
    sample: Sample
    clip: Clip
    pixels: np.ndarray

    @cached_property
    def prompts(self) -> torch.Tensor:
        """int64 (n_classes, context_length): one prompt a class, tokenised."""
        return self.clip.tokens(prompts_for(self.sample.classes, self.config.template))

    @cached_property
    def captions(self) -> torch.Tensor:
        """int64 (n_rows, context_length), in the manifest's order."""
        return self.clip.tokens(self.sample.manifest["caption"].tolist())

    @cached_property
    def classes(self) -> torch.Tensor:
        """int64 (n_rows,): each row's class as a position in `sample.classes`."""
        position = {label: i for i, label in enumerate(self.sample.classes)}
        return torch.tensor([position[label] for label in self.sample.manifest["label"]])

    def split(self, split: Split) -> np.ndarray:
        """Positions of a split's rows in the manifest."""
        return np.flatnonzero(self.sample.manifest["split"] == split)

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        """The contrastive loss of these rows as one batch."""
        rows = np.sort(rows)  # memory-mapped reads in order; the loss does not know an order
        images = self.clip.image_features(self.pixels[rows])
        classes = self.classes[rows]
        if self.config.mode == "captions":
            texts = self.clip.text_features(self.captions[rows])
        else:  # equal texts are encoded once; gradients of their copies add up
            distinct, position = classes.unique(return_inverse=True)
            texts = self.clip.text_features(self.prompts[distinct])[position]
        shared = classes.to(images.device) if self.config.loss == "multi-positive" else None
        return contrastive_loss(images, texts, self.clip.network.logit_scale.exp(), shared)


class _Training:
    """The state of one run while it is running."""

    def __init__(self, run: Run, clip: Clip, pairs: _Pairs) -> None:
        self.run_, self.clip, self.pairs, self.config = run, clip, pairs, run.config
        self.train_rows = pairs.split("train")
        self.steps = len(batches(len(self.train_rows), self.config.batch_size, 0, 0)) * self.config.epochs
        self.optimizer = _optimizer(clip.network, self.config)
        self.step = 0
        self.began = time.monotonic()
        self.losses: list[torch.Tensor] = []  # of the steps since the last report, on the device
        self.best_epoch, self.best_top1, self.epoch = 0, -1.0, 0

    def run(self) -> Activity[None]:
        """All epochs. Whatever way it is left, what was finished is kept and said."""
        state = "stopped"
        try:
            self._validate()
            for epoch in range(1, self.config.epochs + 1):
                self.epoch = epoch
                for rows in batches(len(self.train_rows), self.config.batch_size, self.config.seed, self.epoch):
                    self._train_on(self.train_rows[rows])
                    if self.step % REPORT_STEPS == 0 or self.step == self.steps:
                        yield self._report()
                self._validate()
            state = "finished"
        finally:
            if self.best_epoch:
                self._write_result(state)

    def _train_on(self, rows: np.ndarray) -> None:
        rate = learning_rate_at(self.step, self.steps, self.config.learning_rate, self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.clip.network.train()
        loss = self.pairs.loss(rows)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.clip.network.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))
        self.losses.append(loss.detach())
        self.step += 1

    def _report(self) -> Progress:
        loss = self._finite("training", torch.stack(self.losses).mean())
        self.losses.clear()
        self._append(
            training_loss=loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            logit_scale=self.clip.network.logit_scale.exp().item(),
        )
        note = f"epoch {self.epoch} of {self.config.epochs}, loss {loss:.3f}"
        return Progress(stage=self.config.mode, done=self.step, total=self.steps, note=note)

    @torch.inference_mode()
    def _validate(self) -> None:
        """Loss and top-1 on the validation split; keeps the weights if no epoch was better. Epoch 0 is the base."""
        self.clip.network.eval()
        rows = self.pairs.split("validation")
        chunks = np.array_split(rows, max(1, round(len(rows) / self.config.batch_size)))  # as large as a training batch
        loss = self._finite("validation", sum(self.pairs.loss(chunk) * len(chunk) for chunk in chunks) / len(rows))
        images = self.clip.encode_images(self.pairs.pixels[rows])
        prompts = self.clip.text_features(self.pairs.prompts).cpu().numpy()
        top1 = top_k_accuracy(images @ prompts.T, self.pairs.classes[rows].numpy(), k=1)
        self._append(validation_loss=loss, validation_top1=top1)
        if self.epoch and top1 > self.best_top1:
            self.best_epoch, self.best_top1 = self.epoch, top1
            weights = {name: value.contiguous() for name, value in self.clip.network.state_dict().items()}
            atomic_write(self.run_.weights, save(weights))

    def _finite(self, which: str, loss: torch.Tensor) -> float:
        """The loss as a number. Raises `TrainingError`, with the way out, when it is none any more."""
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"the {which} loss became {value} at step {self.step}: a learning rate of "
                f"{self.config.learning_rate:g} is too high for this base, try a tenth of it"
            )
        return value

    def _append(self, **numbers: float) -> None:
        line = Step(
            step=self.step, epoch=self.step * self.config.epochs / self.steps, seconds=self._seconds(), **numbers
        )
        with disk_errors(self.run_.folder), (self.run_.folder / "metrics.jsonl").open("a") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")

    def _seconds(self) -> float:
        return round(time.monotonic() - self.began, 3)

    def _write_result(self, state: str) -> None:
        result = RunResult(
            state=state,
            best_epoch=self.best_epoch,
            best_validation_top1=self.best_top1,
            epochs_done=self.epoch if state == "finished" else self.epoch - 1,
            steps=self.step,
            seconds=self._seconds(),
            device=str(self.clip.device),
        )
        write_json(self.run_.folder / "result.json", result.model_dump(mode="json"))


def _optimizer(network: torch.nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """AdamW as open_clip sets it up: no decay for biases, norms and the temperature."""
    plain = [p for p in network.parameters() if p.ndim < 2]
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
