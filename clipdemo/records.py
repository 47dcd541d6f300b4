"""The values that flow through the program. They check themselves when built, never change, and turn into JSON.

Fractions lie in [0, 1] everywhere but on a page, which shows per cent.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clipdemo.errors import BadSettings

Mode = Literal["captions", "labels"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MODES: tuple[Mode, ...] = ("captions", "labels")
MODEL_NAMES = ("base", *MODES)
Tune = Literal["everything", "image-tower", "text-tower", "last-blocks", "lora"]

BUILT_IN_BASE = "builtin"
CONTEXT_TOKENS = 77  # CLIP reads no more of a caption, start and end included
DEFAULT_TEMPLATE = "A medical image of {label}"

PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Option = bool | int | float | str


class Record(BaseModel):
    """Base of all values here: frozen, strict about unknown fields, and with a digest of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise BadSettings(_one_line(error)) from None

    def digest(self) -> str:
        """First 8 hexadecimal digits of the SHA-256 of this value as canonical JSON: the same on any machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _one_line(error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence that names the setting and the value found."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    return f"{name} = {first['input']!r}: {message[0].lower()}{message[1:]}"


class CleaningRules(Record):
    """What is left out of a source before a sample is drawn. Whatever is left out is counted by its reason."""

    texts: Literal["auto", "both", "captions", "labels"] = Field(
        "auto", description="What each picture needs: a caption, a label, both; auto: those that the source has."
    )
    exclude: tuple[str, ...] = Field((), description="A class to leave out; may be repeated.")
    synonyms: dict[str, str] = Field(
        {},
        description="WORDING=CLASS: a label that means a class, or a value that is a class of its own after all; "
        "repeatable.",
    )
    smallest_class: int = Field(
        3, ge=1, le=1_000_000, description="Pictures that a class needs; fewer than 3 do not reach every split."
    )
    rare: Literal["drop", "merge"] = Field(
        "drop", description="Classes with fewer pictures: left out, or merged into one class named rare."
    )
    foreign: Literal["keep", "drop"] = Field("keep", description="Captions that are not English: kept, or left out.")
    repeats: Literal["remove", "one-side", "keep"] = Field(
        "remove",
        description="Pictures that repeat another, exactly or nearly: removed; kept in the other's split; or kept "
        "anywhere, which leaks.",
    )

    @field_validator("synonyms", mode="before")
    @classmethod
    def _synonyms_may_be_lines(cls, synonyms: object) -> object:
        """["pelvis=Pelvic cavity"] as {"pelvis": "Pelvic cavity"}."""
        if not isinstance(synonyms, list | tuple):
            return synonyms
        pairs = [str(line).rpartition("=")[::2] for line in synonyms]
        if not all(wording.strip() and name.strip() for wording, name in pairs):
            raise ValueError("write WORDING=CLASS, such as pelvis=Pelvic cavity")
        return {wording.strip(): name.strip() for wording, name in pairs}


class SampleConfig(Record):
    """How a sample is drawn. The same values give the same sample on any machine."""

    source: str = Field("phantom", description="Where pictures come from: phantom, pubmedvision, folder, table or hub.")
    samples: int = Field(
        4096, ge=12, le=10_000_000, description="Pictures in the sample, all three splits together; fewer if need be."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="The same seed gives the same numbers again.")
    train: Fraction = Field(0.8, description="Fraction for training; the same number a class.")
    validation: Fraction = Field(0.1, description="Fraction for choosing the best epoch.")
    test: Fraction = Field(0.1, description="Fraction for the final numbers.")
    cleaning: CleaningRules = CleaningRules()
    options: dict[str, Option] = {}  # of the source, see `clipdemo.sources.settings`
    fingerprint: str = ""  # of the files that the source reads, so that changed files are another sample

    @model_validator(mode="after")
    def _fractions_add_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"train {self.train:g} + validation {self.validation:g} + test {self.test:g} = {total:g}: "
                "the three fractions must add up to 1"
            )
        if min(self.train, self.validation, self.test) <= 0:
            raise ValueError("train, validation and test must each be more than 0: all three splits are needed")
        return self


class RunConfig(Record):
    """How one CLIP is fine-tuned. Nothing else decides what a run does. Descriptions are the command line's help."""

    mode: Mode = Field(description="What pictures are paired with: captions or labels.")
    base: str = Field(
        BUILT_IN_BASE,
        description="Model to start from: builtin, NAME:PRETRAINED of open_clip, hf-hub:ID, local-dir:PATH.",
    )
    epochs: int = Field(4, ge=1, le=1000, description="Passes over the training pictures.")
    batch_size: int = Field(64, ge=2, le=32_768, description="Pairs a step; each is told from all others of its batch.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Highest learning rate, after the warm-up.")
    weight_decay: float = Field(0.1, ge=0, le=10, description="AdamW's weight decay.")
    warmup_fraction: Fraction = Field(0.1, description="Fraction of the steps with a rising rate.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Each block further from the output learns so many times as fast as the next one."
    )
    loss: Literal["paper", "multi-positive"] = Field(
        "paper",
        description="paper, or multi-positive: texts of one class are right answers for each other. For captions this "
        "uses their labels; for labels it is the same loss.",
    )
    template: str = Field(
        DEFAULT_TEMPLATE,
        description="Sentence made of a label; holds {label} once. Several, divided by |, are averaged (an ensemble).",
    )
    augmentation: Literal["none", "light"] = Field(
        "none", description="light: zoom, shift, brightness and contrast change a little at every look."
    )
    averaging: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the running mean of the weights that a step keeps; 0: the weights as they are.",
    )
    interpolation: bool = Field(
        False, description="At the end mix base and tuned weights as validation top-1 likes best (WiSE-FT)."
    )
    patience: int = Field(
        0, ge=0, le=1000, description="Stop after so many epochs without a better validation top-1; 0: never."
    )
    continues: str = Field(
        "", description="Id of a run on the same sample: start from its best weights instead of the base's."
    )
    pictures: int = Field(
        0,
        ge=0,
        description="Training pictures to use, the same number a class as far as they go; 0: all. The smaller choice "
        "of one seed is part of the larger.",
    )
    tune: Tune = Field("everything", description="What is trained: everything, a tower, the last blocks, or LoRA.")
    tuned_blocks: int = Field(2, ge=1, le=100, description="With --tune last-blocks: how many blocks of each tower.")
    lora_rank: int = Field(8, ge=1, le=256, description="With --tune lora: rank of each weight's change.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="auto: bf16 on GPUs that have it, else float32."
    )
    chunk_size: int = Field(
        0, ge=0, le=32_768, description="Pairs in memory at a time, with the whole batch's gradient; 0: as many as fit."
    )
    checkpointing: bool = Field(False, description="Compute blocks again on the way back instead of storing them.")
    compile: bool = Field(False, description="torch.compile for the image tower: on a GPU, for long runs.")
    seed: int = Field(0, ge=0, lt=2**32, description="The same seed gives the same numbers again.")

    @field_validator("template")
    @classmethod
    def _template_holds_label(cls, template: str) -> str:
        for part in template.split("|"):
            if part.count("{label}") != 1 or part.replace("{label}", "").count("{"):
                raise ValueError("a template holds {label} exactly once and no other braces")
        return template


# The learning-rate rule of the paper: CLIP's pretraining rate, scaled down as the batch is smaller.
PRETRAINING_LEARNING_RATE = 5e-4  # ViT-B/32, Radford et al. 2021, table 20
PRETRAINING_BATCH_SIZE = 32_768


def paper_learning_rate(batch_size: int) -> float:
    """CLIP's pretraining rate times batch / 32,768."""
    return PRETRAINING_LEARNING_RATE * batch_size / PRETRAINING_BATCH_SIZE


class Step(Record):
    """One line of a run's `metrics.jsonl`: training numbers at a step, and validation numbers at an epoch's end."""

    step: int
    epoch: float
    seconds: float  # since the run began
    training_loss: float | None = None  # mean over the steps since the last line
    learning_rate: float | None = None
    logit_scale: float | None = None  # 1 / temperature
    validation_loss: float | None = None
    validation_top1: Fraction | None = None  # among the classes; among validation's captions where there are none


class RunResult(Record):
    """How a run ended, and which epoch's weights it kept."""

    state: Literal["finished", "kept", "stopped"]  # kept: stopped for good; stopped: can be gone on with
    best_epoch: int
    best_validation_top1: Fraction
    epochs_done: int
    steps: int
    seconds: float
    device: str
    precision: str = "float32"  # of the towers' products; weights are always float32
    chunk_size: int = 0  # pairs that were in memory at a time
    early: bool = False  # ended by `patience` before the last epoch
    interpolation: Fraction | None = None  # share of the tuned weights in the mix with the base's


class ClassScore(Record):
    """How many of a class's `n` pictures a model put in first place, and among the first three."""

    correct: int
    top3: int
    n: int


RETRIEVAL_DEPTHS = (1, 5, 10)


class Retrieval(Record):
    """Recall at 1, 5 and 10 between the `n` test pictures and their captions, by the number of places looked at."""

    image_to_text: dict[int, Fraction]
    text_to_image: dict[int, Fraction]
    n: int
    n_texts: int  # distinct captions; fewer than pictures where some say the same


class Evaluation(Record):
    """One model on one sample's test split. All numbers come from the predictions saved beside it."""

    name: str  # its kind: base, captions or labels
    run: str | None  # the run whose weights these are; None for a base model
    base: str
    sample: str
    sample_hash: str
    template: str
    predictions: str  # the evaluation's folder and id; it holds predictions.parquet and validation.parquet
    n: int
    logit_scale: float = Field(gt=0)  # 1 / learned temperature: softmax(logit_scale * score) is the model's probability
    validation_logit_scale: float | None = Field(None, gt=0)  # the one that suits the validation pictures best
    top1: Fraction | None = None  # None where the sample has no labels
    top3: Fraction | None = None
    per_class: dict[str, ClassScore] = {}
    retrieval: Retrieval | None = None  # None where the sample has no captions


class Comparison(Record):
    """Several models on the same test pictures, with all that is needed to do it again."""

    id: str
    sample: str
    sample_hash: str
    sample_config: SampleConfig
    sizes: dict[Split, int]
    synthetic: bool  # True when the pictures are drawn, not taken of anybody
    runs: dict[str, RunConfig]
    models: list[Evaluation]
    version: str


class DroppedRows(Record):
    """Rows left out for one reason, with a few of the values that were found, and pictures where there are any."""

    reason: str
    count: int
    examples: list[str] = []
    pictures: list[str] = []  # files in the sample's folder `dropped`


class CleaningReport(Record):
    """Where every row of a source went: rows = dropped (by reason) + sampled + not drawn, exactly."""

    rows: int
    dropped: list[DroppedRows]
    sampled: int
    not_drawn: int
    relabelled: int  # kept rows whose label was another spelling of a class
    source_classes: dict[str, int]  # of the whole cleaned source; empty where labels play no part
    split_classes: dict[Split, dict[str, int]] = {}
    shortfall: dict[str, int] = {}  # training pictures missing from a class's equal share
    wordings: dict[str, dict[str, int]] = {}  # a class -> other spellings of it and how often
    no_labels: dict[str, int] = {}  # the most frequent values of the label column that are no label
    long_captions: int = 0  # sampled captions that are cut at 77 tokens
    foreign_captions: int = 0  # sampled captions that are not English

    @property
    def kept(self) -> int:
        """Rows that cleaning left."""
        return self.rows - sum(d.count for d in self.dropped)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.kept != self.sampled + self.not_drawn:
            raise ValueError(f"the cleaning report does not add up: {self.kept} kept, {self.sampled}+{self.not_drawn}")
        return self


def percent(fraction: float, digits: int = 1) -> str:
    """0.643 -> "64.3 %"; an en dash where there is no number."""
    return "–" if math.isnan(fraction) else f"{100 * fraction:.{digits}f} %"
