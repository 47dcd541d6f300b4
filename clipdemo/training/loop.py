"""The loop: batch, loss, backward, step, report. It yields progress, and may be left at any yield."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from clipdemo import machine, towers
from clipdemo.errors import BadSettings, TrainingError
from clipdemo.evaluation import top_k_accuracy
from clipdemo.models import Clip, mixed, open_model
from clipdemo.progress import Activity, Progress
from clipdemo.records import RunConfig, RunResult, Step
from clipdemo.sampling import Sample
from clipdemo.training.checkpoints import Standing, load_checkpoint, save_checkpoint
from clipdemo.training.distributed import Ranks
from clipdemo.training.gradients import accumulate_gradient, text_features
from clipdemo.training.losses import contrastive_loss
from clipdemo.training.memory import chunk_that_fits
from clipdemo.training.optimizer import make_optimizer, set_rate
from clipdemo.training.pairs import Batch, Pairs
from clipdemo.training.runs import PREVIOUS, Run, begin_run, load_run, run_id
from clipdemo.training.schedule import batches, learning_rate_at
from clipdemo.training.tuning import choose_trained, merged_state
from clipdemo.training.vocabulary import UsedRows
from clipdemo.workspace import Workspace, atomic_write, disk_errors, write_json

MAX_LOGIT_SCALE = 100.0  # as in CLIP's pretraining: temperature never below 0.01
REPORT_STEPS = 4  # steps a line of metrics.jsonl; a GPU is waited for no more often
CHECKPOINT_SECONDS = 60.0  # the most that a kill costs, beside the end of every epoch
VALIDATION_BATCH = 256
MIXES = (1.0, 0.8, 0.6, 0.4, 0.2)  # shares of the tuned weights that WiSE-FT tries


def train(config: RunConfig, sample: Sample, workspace: Workspace, job: str = "") -> Activity[Run]:
    """Fine-tunes one CLIP on the sample's training split and keeps the epoch with the best validation top-1.

    A run that is finished already is found, not repeated; one that was broken off goes on from its last checkpoint.
    Leaving the generator early (stop, Ctrl-C) keeps the best epoch so far, marked as stopped. Raises `TrainingError`
    when the loss stops being a number. Under torchrun every process calls this, and rank 0 writes. `job` is noted.
    """
    sample.require(config.mode)
    if config.loss == "multi-positive":
        sample.require("labels")
    device = machine.pick_device()
    ranks = Ranks.join(device)
    name = run_id(config, sample)
    with workspace.lock(f"run-{name}") if ranks.writes else nullcontext():
        if not ranks.same_everywhere(_is_finished(workspace, name)):
            yield Progress(stage=config.mode, done=0, total=1, note="opening the base model")
            how = machine.prepare_cpu() if device.type == "cpu" else torch.cuda.get_device_name(device)
            torch.manual_seed(config.seed)
            precision = machine.pick_precision(config.precision, device)
            start = _continued(config, sample, workspace)
            clip = open_model(config.base, start, precision, config.compile)
            pairs = yield from Pairs.of(config, sample, clip, workspace)
            if ranks.writes:
                begin_run(config, sample, workspace, job)
            ranks.wait()
            run = load_run(workspace, name)
            training = _Training(run, clip, pairs, ranks)
            training.log(f"{device}, {precision}; {how}" + (f"; {ranks.size} processes" if ranks.size > 1 else ""))
            training.log(towers.describe(clip.network))
            yield from training.run()
            ranks.wait()
        run = load_run(workspace, name)
        if ranks.writes:
            for checkpoint in run.checkpoints:
                checkpoint.unlink(missing_ok=True)  # this run's, or what a kill left after the last word was written
    best = run.result
    note = f"best: epoch {best.best_epoch}, {100 * best.best_validation_top1:.1f} % of validation"
    yield Progress(stage=config.mode, done=best.steps, total=best.steps, note=note)
    return run


def _is_finished(workspace: Workspace, name: str) -> bool:
    there = (workspace.folder("runs", name) / "result.json").exists()
    return there and load_run(workspace, name).result.state != "stopped"


def _continued(config: RunConfig, sample: Sample, workspace: Workspace) -> Path | None:
    """The weights that a run starts from, where it continues another. Raises `TrainingError` where that cannot be."""
    if not config.continues:
        return None
    run = load_run(workspace, config.continues)
    if run.sample != sample.id or run.result is None or run.config.base != config.base:
        raise TrainingError(
            f"run {run.id} cannot be continued like this: it has to have ended, on sample {sample.id} and with base "
            f"{config.base}; it is of sample {run.sample} and base {run.config.base}"
        )
    return run.weights


class _Training:
    """The state of one run while it is running."""

    def __init__(self, run: Run, clip: Clip, pairs: Pairs, ranks: Ranks) -> None:
        self.run_, self.clip, self.pairs, self.ranks, self.config = run, clip, pairs, ranks, run.config
        self.train_rows = pairs.split("train")
        self._check_shares()
        choose_trained(clip.network, self.config)
        if self.config.checkpointing:  # open_clip's wrapper of HF's towers takes even "off" for "on"
            clip.network.set_grad_checkpointing(True)
        self.rows = _used_rows(clip, pairs)
        self.optimizer = make_optimizer(clip.network, self.config)
        self.averages = _averages(clip.network) if self.config.averaging else {}
        self.epoch_steps = len(batches(len(self.train_rows), self.config.batch_size, 0, 0))
        self.steps = self.epoch_steps * self.config.epochs
        self.losses: list[Tensor] = []  # of the steps since the last report, on the device
        self.standing = Standing()
        self.mix: float | None = None
        self.validation_batch = VALIDATION_BATCH
        self.saved = self.began = time.monotonic()

    def log(self, line: str) -> None:
        if self.ranks.writes:
            self.run_.log(line)

    def _check_shares(self) -> None:
        """Raises `BadSettings` where a process would have nothing to do."""
        batch, validation = min(self.config.batch_size, len(self.train_rows)), len(self.pairs.split("validation"))
        if self.ranks.size > min(batch, validation):
            raise BadSettings(
                f"{self.ranks.size} processes are too many for {batch} pairs a batch and {validation} validation "
                "pictures, of which each needs its share: start fewer"
            )

    def run(self) -> Activity[None]:
        """All epochs. Whatever way it is left, what was finished is kept and said."""
        now, state = self.standing, "stopped"
        try:
            if self.ranks.same_everywhere(bool(self.run_.checkpoints)):
                self._go_on()
                now = self.standing
            else:
                now.chunk_size = self.config.chunk_size or self._chunk_that_fits()
                self._validate()
            while now.step < self.steps and not self._has_waited_enough():
                for rows, batch in self.pairs.batches(self._order(), self.ranks):
                    self._train_on(rows, batch)
                    if now.step % REPORT_STEPS == 0 or now.step == self.steps:
                        yield self._report()
                        if time.monotonic() - self.saved > CHECKPOINT_SECONDS and now.step % self.epoch_steps:
                            self._save()
                self._validate()
                self._save()
            if self.config.interpolation and self.ranks.writes:
                self._interpolate()
            state = "finished"
        except GeneratorExit:  # somebody stops the run at a report; at an epoch's end its validation is still to come
            if now.step % self.epoch_steps:
                self._save()
            raise
        finally:
            if now.best_epoch and self.ranks.writes:
                self._write_result(state)

    def _has_waited_enough(self) -> bool:
        """Whether so many epochs in a row were no better than the best one that it is time to end."""
        now = self.standing
        return 0 < self.config.patience <= now.epochs_done - now.best_epoch and now.step % self.epoch_steps == 0

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 1; the one just done, after its last step."""
        return max(1, -(-self.standing.step // self.epoch_steps))

    def _order(self) -> Iterator[np.ndarray]:
        """The rows of each batch that this epoch still has."""
        done, left = divmod(self.standing.step, self.epoch_steps)
        for places in batches(len(self.train_rows), self.config.batch_size, self.config.seed, done + 1)[left:]:
            yield np.sort(self.train_rows[places])  # memory-mapped reads in order; the loss does not know an order

    def _train_on(self, rows: np.ndarray, batch: Batch) -> None:
        now = self.standing
        rate = learning_rate_at(now.step, self.steps, self.config.learning_rate, self.config.warmup_fraction)
        set_rate(self.optimizer, rate)
        self.clip.network.train()
        self.losses.append(self._gradient(rows, batch))
        self.optimizer.step()
        for group in self.optimizer.param_groups:
            if self.rows and any(p is self.rows.weight for p in group["params"]):
                self.rows.stepped(group["lr"], group["weight_decay"])
        with torch.no_grad():
            self.clip.network.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))
        now.step += 1
        if self.averages:
            self._average()

    def _gradient(self, rows: np.ndarray, batch: Batch) -> Tensor:
        """Leaves the batch's gradient in the parameters. Where memory runs out, with fewer pairs at a time."""
        now, multi = self.standing, self.config.loss == "multi-positive"
        classes = self.pairs.classes_of(rows) if multi else None
        while True:
            self.optimizer.zero_grad()
            try:
                return accumulate_gradient(
                    self.clip, batch, n=len(rows), chunk_size=now.chunk_size, classes=classes,
                    seed=(self.config.seed * 1_000_003 + now.step) % 2**40,
                    augment=self.config.augmentation == "light", ranks=self.ranks,
                )  # fmt: skip
            except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a plain one on the CPU
                if not _is_out_of_memory(error):
                    raise
                if self.ranks.size > 1:  # the others wait for this one's features by now
                    raise TrainingError(
                        f"memory ran out on {self.clip.device} with {min(now.chunk_size, len(batch))} pairs at a time: "
                        "choose a smaller chunk_size, or turn checkpointing on"
                    ) from None
                if min(now.chunk_size, len(batch)) <= 1:
                    raise TrainingError(
                        f"memory ran out on {self.clip.device} with a single pair: choose a smaller base than "
                        f"{self.config.base!r}, or turn checkpointing on"
                    ) from None
            now.chunk_size = 1 << (min(now.chunk_size, len(batch)) - 1).bit_length() - 1  # next lower power of two
            self._free_memory()
            self.log(f"memory ran out: from here {now.chunk_size} pairs at a time, with the same gradient")

    def _chunk_that_fits(self) -> int:
        batch = self.pairs.batch(next(self._order()))
        chunk = min(self.ranks.same_everywhere(chunk_that_fits(self.clip, batch)), len(batch))
        if chunk < len(batch):
            self.log(f"{chunk} of {len(batch)} pairs fit into memory at a time: gradients are cached, and are the same")
        return chunk

    def _report(self) -> Progress:
        loss = self._finite("training", torch.stack(self.losses).mean())
        self.losses.clear()
        self._append(
            training_loss=loss,
            learning_rate=learning_rate_at(
                self.standing.step - 1, self.steps, self.config.learning_rate, self.config.warmup_fraction
            ),
            logit_scale=self.clip.network.logit_scale.exp().item(),
        )
        memory = machine.used_bytes(self.clip.device) / 1e9
        note = f"epoch {self.epoch} of {self.config.epochs}, loss {loss:.3f}, {memory:.1f} GB of memory"
        return Progress(stage=self.config.mode, done=self.standing.step, total=self.steps, note=note)

    @torch.no_grad()
    def _validate(self) -> None:
        """Loss and top-1 on the validation split; keeps the weights if no epoch was better. Epoch 0 is the base."""
        now = self.standing
        self.clip.network.eval()
        rows = self.pairs.split("validation")
        with self._averaged():
            images, texts = self._features(rows)
            answers, right = self._answers(self.clip, rows)
            scale = self.clip.network.logit_scale.exp()
            multi = self.config.loss == "multi-positive"
            losses = []
            chunks = np.array_split(np.arange(len(rows)), max(1, round(len(rows) / self.config.batch_size)))
            for chunk in chunks:  # as large as a training batch
                classes = self.pairs.classes_of(rows[chunk]) if multi else None
                losses.append(len(chunk) * contrastive_loss(images[chunk], texts[chunk], scale, classes))
            loss = self._finite("validation", sum(losses) / len(rows))
            top1 = top_k_accuracy((images @ answers.T).cpu().numpy(), right, k=1)
            self._append(validation_loss=loss, validation_top1=top1)
            now.epochs_done = now.step // self.epoch_steps
            if now.step and top1 > now.best_top1:
                self._save_weights(self._state())
                now.best_epoch, now.best_top1 = self.epoch, top1  # not before the weights are there

    def _answers(self, clip: Clip, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Features of what these rows' pictures choose from, and the right answer of each."""
        tokens, templates, right = self.pairs.answers(rows)
        places = self.pairs.places if clip is self.clip else torch.from_numpy  # see `vocabulary`
        pieces = places(tokens.astype(np.int64)).split(self.validation_batch * templates)
        return torch.cat([text_features(clip, piece, templates) for piece in pieces]), right

    def _features(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Features of these rows' pictures and of their texts, each rank having computed its share."""
        while True:
            try:
                images, texts = self._own_features(rows[self.ranks.share(len(rows))])
                return self.ranks.gather(images, len(rows)), self.ranks.gather(texts, len(rows))
            except RuntimeError as error:
                if not _is_out_of_memory(error) or self.validation_batch == 1 or self.ranks.size > 1:
                    raise
            self.validation_batch //= 2
            self._free_memory()
            self.log(f"memory ran out: from here {self.validation_batch} validation pictures at a time")

    def _own_features(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        images, texts = [], []
        pieces = (rows[i : i + self.validation_batch] for i in range(0, len(rows), self.validation_batch))
        for _, batch in self.pairs.batches(pieces):
            images.append(self.clip.image_features(batch.pixels))
            texts.append(text_features(self.clip, batch.tokens, batch.templates)[batch.text_of])
        return torch.cat(images), torch.cat(texts)

    def _free_memory(self) -> None:
        if self.clip.device.type == "cuda":
            torch.cuda.empty_cache()

    # ---- weights

    def _state(self) -> dict[str, Tensor]:
        """open_clip's state dict of the network as it is."""
        state = merged_state(self.clip.network)
        if self.rows:
            name = next(name for name in state if name.endswith("token_embedding.weight"))
            state[name] = self.rows.table(state[name])
        return state

    def _save_weights(self, state: dict[str, Tensor], **notes: str) -> None:
        if self.ranks.writes:
            tensors = {name: value.cpu().contiguous() for name, value in state.items()}
            atomic_write(self.run_.weights, save(tensors, notes or None))

    def _average(self) -> None:
        """Moves the running means towards the weights; faster in the first steps, which start from the base."""
        keep = min(self.config.averaging, (1 + self.standing.step) / (10 + self.standing.step))
        trained = dict(self.clip.network.named_parameters())
        torch._foreach_lerp_(list(self.averages.values()), [trained[name].detach() for name in self.averages], 1 - keep)
        if self.rows:
            self.standing.average_decayed += (1 - keep) * (self.rows.decayed - self.standing.average_decayed)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Puts the running means of the weights in their places for a while."""
        if not self.averages:
            yield
            return
        trained = dict(self.clip.network.named_parameters())
        own = {name: trained[name].detach().clone() for name in self.averages}
        decayed = self.rows.decayed if self.rows else 1.0
        try:
            for name, average in self.averages.items():
                trained[name].data.copy_(average)
            if self.rows:
                self.rows.decayed = self.standing.average_decayed
            yield
        finally:
            for name, value in own.items():
                trained[name].data.copy_(value)
            if self.rows:
                self.rows.decayed = decayed

    @torch.no_grad()
    def _interpolate(self) -> None:
        """Mixes base and tuned weights as validation top-1 likes best (Wortsman et al. 2022, "WiSE-FT").

        The file notes that it is a mix: a run that was broken off right then does not mix it once more.
        """
        with safe_open(self.run_.weights, "pt") as file:
            note = (file.metadata() or {}).get("mix")
        if note:
            self.mix, self.standing.best_top1 = json.loads(note)
            return
        rows = self.pairs.split("validation")
        clip = open_model(self.config.base, precision=self.clip.precision)
        base = {name: value.clone() for name, value in clip.network.state_dict().items()}
        tuned = {name: value.to(self.clip.device) for name, value in load_file(self.run_.weights).items()}
        whole, found = self.pairs.pixels[rows], {}
        for mix in MIXES:
            clip.network.load_state_dict(mixed(base, tuned, mix))
            answers, right = self._answers(clip, rows)
            found[mix] = top_k_accuracy(clip.encode_images(whole) @ answers.cpu().numpy().T, right, k=1)
        best = max(found, key=lambda mix: (found[mix], mix))
        self._save_weights(mixed(base, tuned, best), mix=json.dumps([best, found[best]]))
        self.mix, self.standing.best_top1 = best, found[best]
        self.log("share of tuned weights -> validation top-1: " + ", ".join(f"{m:g} {v:.3f}" for m, v in found.items()))

    # ---- files

    def _finite(self, which: str, loss: Tensor) -> float:
        """The loss as a number. Raises `TrainingError`, with the way out, when it is none any more."""
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"the {which} loss became {value} at step {self.standing.step}: a learning rate of "
                f"{self.config.learning_rate:g} is too high for this base, try a tenth of it"
            )
        return value

    def _append(self, **numbers: float) -> None:
        if not self.ranks.writes:
            return
        step = self.standing.step
        line = Step(step=step, epoch=step / self.epoch_steps, seconds=self._seconds(), **numbers)
        with disk_errors(self.run_.folder), (self.run_.folder / "metrics.jsonl").open("a") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")

    def _seconds(self) -> float:
        return round(self.standing.seconds + time.monotonic() - self.began, 3)

    def _save(self) -> None:
        """A checkpoint, from which the run would go on as if nothing had happened."""
        if self.ranks.writes:
            losses = [float(loss) for loss in self.losses]
            now = Standing(**vars(self.standing) | {"seconds": self._seconds(), "losses": losses})
            if self.rows:
                now.decayed = self.rows.decayed
            if self.run_.checkpoint.exists():
                self.run_.checkpoint.replace(self.run_.folder / PREVIOUS)
            save_checkpoint(self.run_.checkpoint, now, self.clip.network, self.optimizer, self.averages)
        self.saved = time.monotonic()

    def _go_on(self) -> None:
        """Takes up a broken-off run where its checkpoint stands; what was measured after that is measured again."""
        run = self.run_
        self.standing = self._loaded(run.checkpoints)
        self.losses = [torch.tensor(loss, device=self.clip.device) for loss in self.standing.losses]
        if self.rows:
            self.rows.decayed = self.standing.decayed
        self.began = time.monotonic()
        if self.ranks.writes:
            kept = [s.model_dump_json(exclude_none=True) + "\n" for s in run.steps() if s.step <= self.standing.step]
            atomic_write(run.folder / "metrics.jsonl", "".join(kept).encode())
        self.log(f"goes on from step {self.standing.step} of {self.steps}")

    def _loaded(self, checkpoints: Sequence[Path]) -> Standing:
        """Puts everything back as the newest checkpoint that can be read says."""
        newest, *older = checkpoints
        try:
            return load_checkpoint(newest, self.clip.network, self.optimizer, self.averages)
        except TrainingError as error:
            if not older:
                raise
            self.log(f"{error}; the one before it is taken")
            return self._loaded(older)

    def _write_result(self, state: str) -> None:
        now = self.standing
        result = RunResult(
            state=state,
            best_epoch=now.best_epoch,
            best_validation_top1=now.best_top1,
            epochs_done=now.epochs_done,
            steps=now.step,
            seconds=self._seconds(),
            device=str(self.clip.device),
            precision=self.clip.precision,
            chunk_size=now.chunk_size,
            early=state == "finished" and now.step < self.steps,
            interpolation=self.mix,
        )
        write_json(self.run_.folder / "result.json", result.model_dump(mode="json"))


def _used_rows(clip: Clip, pairs: Pairs) -> UsedRows | None:
    """Trains only the rows of the token table that the sample uses, where the text tower is one that we know."""
    if not towers.is_plain_text_tower(clip.network):
        return None
    rows = UsedRows(clip.network, pairs.vocabulary())
    pairs.places = rows.ids
    return rows


def _averages(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
