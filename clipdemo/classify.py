"""What a comparison's models say to pictures of anybody's: the same numbers for page, API and command line.

Fresh features are rounded as kept ones are, and classes encoded as `comparison.evaluate` does, so that a picture of the
sample gets the scores that its comparison has saved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from clipdemo.appearance import Appearance, appearances, of_kind
from clipdemo.comparison import load_predictions
from clipdemo.drop import Dropped, Refused, guessed_label
from clipdemo.embeddings import as_kept, image_embeddings, model_id, text_embeddings
from clipdemo.errors import BadSettings
from clipdemo.evaluation import distinct, probabilities, scores_of, top_answers
from clipdemo.models import BUILT_IN_FOLDER, Clip, open_model
from clipdemo.novelty import MOST_PICTURES, MOST_REFERENCES, WAYS, Novelty, novelty_of, seen, thinned
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity, Progress
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE, Comparison, Evaluation, RunConfig, Split, percent
from clipdemo.sampling import Sample, load_sample
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.spreadsheets import harmless
from clipdemo.statistics import proportion_interval
from clipdemo.training.runs import load_run
from clipdemo.workspace import Workspace

FAMILIAR_FILE = BUILT_IN_FOLDER / "familiar.safetensors"  # made by tools/familiar_base.py
SHOWN = 3  # labels and captions of an answer
MOST_LABELS = 200  # that somebody may type
MOST_LABEL_CHARACTERS = 200
BATCH = 64  # pictures encoded at a time
UNSURE = 0.5  # probability below which an answer is called a guess
_LABEL_SETS = 32  # that a model remembers
_STAGE = "opening models"

Open = Callable[[str, Path | None], Clip]  # base and weights, as `models.open_model`


@dataclass(frozen=True, eq=False)
class Model:
    """One model, ready to answer. Its `id` is its evaluation's."""

    id: str
    look: Appearance
    clip: Clip
    template: str
    logit_scale: float  # what a cosine is multiplied with before the softmax
    fitted: bool  # whether that suits the validation pictures; else it is what training has learned
    captions: tuple[str, ...] = ()  # the sample's distinct training captions
    caption_vectors: np.ndarray | None = None  # float32 (n_captions, dim), rows of unit length
    _encoded: OrderedDict[tuple[tuple[str, ...], str], np.ndarray] = field(default_factory=OrderedDict, repr=False)

    def class_vectors(self, classes: Sequence[str]) -> np.ndarray:
        """float32 (n_classes, dim), rows of unit length; encoded once for each set of labels and template."""
        if not classes:
            return np.empty((0, 1), np.float32)
        key = (tuple(classes), self.template)
        found = self._encoded.get(key)
        if found is None:
            found = self.clip.encode_classes(classes, self.template)
        self._encoded[key] = self._encoded.pop(key, found)  # now the youngest
        while len(self._encoded) > _LABEL_SETS:
            self._encoded.popitem(last=False)
        return found


@dataclass(frozen=True, eq=False)
class Classifier:
    """Models that answer with the same classes. `novelty` is the rule for what is familiar."""

    name: str  # the comparison's id, or of the built-in base
    classes: tuple[str, ...]
    models: tuple[Model, ...]
    novelty: Novelty | None = None  # None where the sample is gone
    judge: str = ""  # id of the model, if any, that content is seen by: one that was not tuned
    own_labels: bool = False  # whether somebody typed the classes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Picture sizes that the models look at, for `drop.read_drop`."""
        return tuple(sorted({model.clip.image_size for model in self.models}))


@dataclass(frozen=True)
class Ranked:
    """A class with its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class NearCaption:
    """A training caption with its cosine to the picture."""

    text: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What one model says, best first. Captions say in words what the model finds the picture to be like."""

    model: str  # its id
    title: str
    labels: tuple[Ranked, ...]
    captions: tuple[NearCaption, ...]


@dataclass(frozen=True)
class Result:
    """What all models say to one picture."""

    name: str
    label: str | None  # the class that its folder or file is called after
    answers: tuple[Answer, ...]
    strangeness: float | None  # see `novelty`; None where the sample is gone
    familiar: bool | None  # whether the sample has pictures like it
    agreement: str  # in words

    def plain(self) -> dict[str, object]:
        """Nothing but what JSON knows."""
        return asdict(self)


# ---- opening


def open_classifier(
    workspace: Workspace, comparison: Comparison | None = None, open: Open = open_model
) -> Activity[Classifier]:
    """A comparison's models with all that they need to answer; without one the built-in base and its body parts.

    Embeddings of the sample are made where they are not kept yet. Where the sample has been deleted, there are no
    captions and nothing says what is familiar. To the base alone, pictures of the built-in dataset are.
    `open` may hand out models that are shared: nothing changes them.
    """
    if comparison is None:
        yield Progress(stage=_STAGE, done=0, total=1, note="opening the built-in base")
        clip = open(BUILT_IN_BASE, None)
        look = of_kind("base")
        model = Model(BUILT_IN_BASE, look, clip, DEFAULT_TEMPLATE, clip.logit_scale, False)
        model.class_vectors(BODY_PARTS)
        return Classifier(BUILT_IN_BASE, BODY_PARTS, (model,), _built_in_novelty(), model.id)
    sample = load_sample(workspace, comparison.sample) if _is_there(workspace, comparison) else None
    classes = tuple(scores_of(load_predictions(workspace, comparison.models[0]))[2])
    looks, models = appearances(comparison), []
    for done, evaluation in enumerate(comparison.models):
        look = looks[evaluation.predictions]
        yield Progress(stage=_STAGE, done=done, total=len(comparison.models), note=f"opening {look.title}")
        model = yield from _opened(evaluation, look, sample, workspace, open)
        model.class_vectors(classes)
        models.append(model)
    untuned = ((m, e.base) for m, e in zip(models, comparison.models, strict=True) if e.run is None)
    judge, base = next(untuned, (None, None))
    novelty = None
    if sample is not None:
        novelty = yield from _novelty((judge or models[0]).clip, base, sample, workspace)
    yield Progress(stage=_STAGE, done=len(models), total=len(models), note="ready")
    return Classifier(comparison.id, classes, tuple(models), novelty, judge.id if judge else "")


def _is_there(workspace: Workspace, comparison: Comparison) -> bool:
    return workspace.folder("samples", comparison.sample).is_dir()


def _opened(
    evaluation: Evaluation, look: Appearance, sample: Sample | None, workspace: Workspace, open: Open
) -> Activity[Model]:
    run = load_run(workspace, evaluation.run) if evaluation.run else None
    clip, name = open(evaluation.base, run.weights if run else None), model_id(run, evaluation.base)
    captions: list[str] = []
    vectors = None
    if sample is not None and "captions" in sample.texts:
        captions = _thinned(distinct(sample.rows("train")["caption"].tolist())[0])
        vectors = yield from text_embeddings(clip, name, captions, workspace, _STAGE)
    fitted = evaluation.validation_logit_scale
    return Model(
        id=evaluation.predictions,
        look=look,
        clip=clip,
        template=evaluation.template,
        logit_scale=fitted or evaluation.logit_scale,
        fitted=fitted is not None,
        captions=tuple(captions),
        caption_vectors=vectors,
    )


def _built_in_novelty() -> Novelty:
    """What is like the pictures that this program draws."""
    kept = {name: array.astype(np.float32) for name, array in load_file(FAMILIAR_FILE).items()}
    train, held_out = ({way: kept[f"{part}.{way}"] for way in WAYS} for part in ("train", "held_out"))
    return novelty_of(train, held_out)


def _novelty(clip: Clip, base: str | None, sample: Sample, workspace: Workspace) -> Activity[Novelty | None]:
    """The sample's rule, at the picture size of `clip`; with content where that is the untuned `base`."""
    pixels = yield from sample_pixels(sample, clip.image_size, workspace)

    def see(*splits: Split) -> Activity[tuple[dict[str, np.ndarray], list[str]]]:
        """Pictures of these splits in all ways, and their cases."""
        tables, content = [], []
        for split in splits:
            table = sample.rows(split)
            places = thinned(len(table), MOST_PICTURES)
            tables.append(table.iloc[places])
            if base:
                features = yield from image_embeddings(clip, model_id(None, base), sample, split, workspace, _STAGE)
                content.append(features[places])
        chosen = pd.concat(tables)
        yield Progress(stage=_STAGE, done=0, total=len(chosen), note=f"looking at {len(chosen):,} pictures")
        found = seen(pixels[chosen.index.to_numpy()], np.concatenate(content) if base else None)
        return found, chosen["group"].tolist()

    train, groups = yield from see("train")
    held_out, _ = yield from see("validation", "test")
    try:
        return novelty_of(train, held_out, groups)
    except BadSettings:  # pictures of a single case
        return None


def _thinned(texts: Sequence[str]) -> list[str]:
    places = thinned(len(texts), MOST_REFERENCES)
    return [texts[i] for i in places]


def zero_shot(classifier: Classifier, labels: Sequence[str], template: str = "") -> Classifier:
    """The same models with classes that somebody typed; an empty template leaves each model its own.

    Temperatures stay as they are: they suit the sample's classes and may not suit these. What is familiar stays too,
    for it is about the sample's pictures, not about classes. Raises `BadSettings`.
    """
    classes = checked_labels(labels)
    if template:
        RunConfig(mode="labels", template=template)  # checks it
    models = tuple(replace(model, template=template or model.template) for model in classifier.models)
    return replace(classifier, classes=classes, models=models, own_labels=True)


def typed(classifier: Classifier, labels: str, template: str = "") -> Classifier:
    """`zero_shot` of what somebody typed: labels divided by commas; the classifier's own where there are none."""
    if not labels.strip() and not template.strip():
        return classifier
    return zero_shot(classifier, labels.split(",") if labels.strip() else classifier.classes, template.strip())


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels without space around them. Raises `BadSettings` where they cannot be told apart, or are too many."""
    classes = tuple(" ".join(label.split()) for label in labels)
    if not 2 <= len(classes) <= MOST_LABELS:
        raise BadSettings(f"{len(classes)} labels: give 2 to {MOST_LABELS:,} to choose from")
    folded: set[str] = set()
    for number, label in enumerate(classes, start=1):
        if not label:
            raise BadSettings(f"label {number} is empty: write a word or leave it out")
        if len(label) > MOST_LABEL_CHARACTERS:
            raise BadSettings(
                f"label {label[:20]!r}... has {len(label):,} characters: at most {MOST_LABEL_CHARACTERS} are taken"
            )
        if label.casefold() in folded:
            raise BadSettings(f"label {label!r} is there twice: capitals make no difference to the models")
        folded.add(label.casefold())
    return classes


# ---- answering


def classify(classifier: Classifier, pictures: Sequence[Dropped], k: int = SHOWN) -> list[Result]:
    """What each model says to each picture: its `k` best classes and nearest captions."""
    return [one for one in classified(classifier, pictures, k) if isinstance(one, Result)]


def classified(
    classifier: Classifier, items: Iterable[Dropped | Refused], k: int = SHOWN
) -> Iterator[Result | Refused]:
    """Answers as pictures come in, in batches; what was refused passes through, in its place."""
    if k < 1:
        raise BadSettings(f"k = {k}: at least one answer a model is shown")
    items = iter(items)
    while batch := list(islice(items, BATCH)):
        pictures = [item for item in batch if isinstance(item, Dropped)]
        results = iter(_answered(classifier, pictures, k) if pictures else ())
        yield from (next(results) if isinstance(item, Dropped) else item for item in batch)


def embed_images(model: Model, pictures: Sequence[Dropped]) -> np.ndarray:
    """float32 (n, dim), rows of unit length: pictures as the model sees them, rounded as kept ones are."""
    return as_kept(model.clip.encode_images(np.stack([p.pixels[model.clip.image_size] for p in pictures])))


def embed_text(model: Model, text: str) -> np.ndarray:
    """float32 (dim,), of unit length: a text as the model reads it. Raises `BadSettings` for an empty one."""
    if not text.strip():
        raise BadSettings("the text is empty: write a few words")
    return as_kept(model.clip.encode_texts([text]))[0]


def nearest_captions(model: Model, features: np.ndarray, k: int = SHOWN) -> list[tuple[NearCaption, ...]]:
    """The training captions nearest to each row of float32 (n, dim), best first; none where the sample has none."""
    if model.caption_vectors is None or not len(model.captions):
        return [()] * len(features)
    scores = features @ model.caption_vectors.T
    return [
        tuple(NearCaption(model.captions[i], float(row[i])) for i in best)
        for row, best in zip(scores, top_answers(scores, k), strict=True)
    ]


def _answered(classifier: Classifier, pictures: Sequence[Dropped], k: int) -> list[Result]:
    by_model, content = [], None
    for model in classifier.models:
        features = embed_images(model, pictures)
        by_model.append(_answers(classifier, model, features, k))
        content = features if model.id == classifier.judge else content
    strangeness = _strangeness(classifier, pictures, content)
    results = []
    for i, picture in enumerate(pictures):
        answers = tuple(answers[i] for answers in by_model)
        strange = None if strangeness is None else float(strangeness[i])
        familiar = None if strange is None else strange <= classifier.novelty.threshold
        said = agreement(answers, familiar, classifier.own_labels)
        label = guessed_label(picture.name, classifier.classes)
        results.append(Result(picture.name, label, answers, strange, familiar, said))
    return results


def _strangeness(classifier: Classifier, pictures: Sequence[Dropped], content: np.ndarray | None) -> np.ndarray | None:
    if classifier.novelty is None:
        return None
    judge = next((m for m in classifier.models if m.id == classifier.judge), classifier.models[0])
    pixels = np.stack([picture.pixels[judge.clip.image_size] for picture in pictures])
    return classifier.novelty.strangeness(seen(pixels, content))


def _answers(classifier: Classifier, model: Model, features: np.ndarray, k: int) -> list[Answer]:
    classes, captions = classifier.classes, nearest_captions(model, features, k)
    if not classes:
        return [Answer(model.id, model.look.title, (), near) for near in captions]
    scores = features @ model.class_vectors(classes).T
    chances = probabilities(scores, model.logit_scale)
    return [
        Answer(model.id, model.look.title, tuple(Ranked(classes[j], float(row[j])) for j in best), near)
        for row, best, near in zip(chances, top_answers(scores, k), captions, strict=True)
    ]


# ---- in words


def agreement(answers: Sequence[Answer], familiar: bool | None = None, own_labels: bool = False) -> str:
    """Who says what: "Captions and Labels say Chest (81 to 93 %), Base says Abdomen (40 %).", and doubts."""
    said: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.labels:
            said.setdefault(answer.labels[0].label, []).append(answer)
    if not said:
        return "There are no classes to choose from: type labels of your own." + _unfamiliar(familiar, own_labels)
    camps = sorted(said.items(), key=lambda camp: -len(camp[1]))  # stable: the first model's comes first
    if len(camps) == 1 and len(answers) > 1:
        label, camp = camps[0]
        who = "Both" if len(camp) == 2 else f"All {_number(len(camp))}"
        sentence = f"{who} models say {label} ({_range(camp)})."
    else:
        parts = [
            f"{_listed([a.title for a in camp])} {'say' if len(camp) > 1 else 'says'} {label} ({_range(camp)})"
            for label, camp in camps
        ]
        disagree = "The models disagree: " if len(camps) == len(answers) > 1 else ""
        sentence = disagree + ", ".join(parts) + "."
    if max(answer.labels[0].probability for answer in answers) < UNSURE:
        sentence += " None is sure."
    return sentence + _unfamiliar(familiar, own_labels)


def _unfamiliar(familiar: bool | None, own_labels: bool) -> str:
    if familiar is not False:
        return ""
    if own_labels:
        return " The dataset has no picture like this one: fine-tuning taught the models nothing about its kind."
    return " None of these may be right: the dataset has no picture like this one."


def doubt(classifier: Classifier) -> str:
    """Why a picture is called unfamiliar, and how often that is wrong about pictures that do belong."""
    rule = classifier.novelty
    low, high = rule.false_alarms
    whose = "the built-in dataset’s" if classifier.name == BUILT_IN_BASE else "the sample’s"
    ways = "content, colours, texture and layout" if classifier.judge else "colours, texture and layout"
    return (
        f"In {ways}, the picture is further from all of {whose} {rule.learned:,} training pictures than 95 % of them "
        f"are from each other. Of {rule.tested:,} more pictures, which do belong, this rule turned {rule.alarms:,} "
        f"away ({percent(rule.alarms / max(1, rule.tested))}, 95 %: {percent(low)} to {percent(high)})."
    )


def _range(camp: Sequence[Answer]) -> str:
    chances = [answer.labels[0].probability for answer in camp]
    low, high = percent(min(chances), 0), percent(max(chances), 0)
    return high if low == high else f"{low.removesuffix(' %')} to {high}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(n: int) -> str:
    words = ("three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[n - 3] if 3 <= n <= 10 else str(n)


# ---- many pictures


@dataclass(frozen=True)
class Accuracy:
    """How many of the `n` pictures with a known class a model has right, with its 95 % Wilson interval."""

    model: str
    title: str
    right: int
    n: int
    low: float
    high: float


def accuracies(results: Sequence[Result]) -> list[Accuracy]:
    """One a model, over the pictures whose folder or name says their class; none where no picture's does."""
    known = [result for result in results if result.label is not None and result.answers[0].labels]
    found = []
    for place, answer in enumerate(known[0].answers if known else ()):
        right = sum(result.answers[place].labels[0].label == result.label for result in known)
        found.append(Accuracy(answer.model, answer.title, right, len(known), *proportion_interval(right, len(known))))
    return found


def batch_table(results: Sequence[Result]) -> pd.DataFrame:
    """One row a picture: name, each model's answer and its probability, agreement, familiar, and label."""
    rows = []
    for result in results:
        row: dict[str, object] = {"name": result.name}
        for answer in result.answers:
            first = answer.labels[0] if answer.labels else None
            row[answer.title] = first.label if first else None
            row[f"{answer.title} probability"] = first.probability if first else None
        rows.append(row | {"agreement": result.agreement, "familiar": result.familiar, "label": result.label})
    return pd.DataFrame(rows)


def answers_csv(results: Sequence[Result]) -> bytes:
    """The same as a CSV file that a spreadsheet may open."""
    return _csv(batch_table(results))


def refused_table(refused: Sequence[Refused]) -> pd.DataFrame:
    """A row for each file that could not be used."""
    return pd.DataFrame([(one.name, one.reason, one.message) for one in refused], columns=["File", "Reason", "In full"])


def refused_csv(refused: Sequence[Refused]) -> bytes:
    """The same as a CSV file that a spreadsheet may open."""
    return _csv(refused_table(refused))


def _csv(table: pd.DataFrame) -> bytes:
    """Names come from strangers, so no cell is a formula."""
    for name in table.select_dtypes(exclude=["number", "bool"]):
        table[name] = [harmless(value) if isinstance(value, str) else value for value in table[name]]
    return table.to_csv(index=False).encode()
