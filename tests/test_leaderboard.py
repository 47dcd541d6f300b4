import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    recall_score,
    top_k_accuracy_score,
)
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from clipdemo.errors import ComparisonError
from clipdemo.evaluation import (
    distinct,
    negative_log_likelihood,
    predictions_frame,
    retrieval_of,
    retrieval_ranks,
    scores_of,
)
from clipdemo.leaderboard import bases_of, calibrations, leaderboard, per_class
from clipdemo.records import RETRIEVAL_DEPTHS, Comparison, Evaluation, RunConfig, SampleConfig

CLASSES = ("Abdomen", "Chest", "Foot", "Head", "Pelvis, lower")
N = 160


def make_model(name: str, run: str | None = None, base: str = "builtin", key: str = "", **more: object) -> Evaluation:
    values = {
        "name": name,
        "run": run,
        "base": base,
        "sample": "s",
        "sample_hash": "hash",
        "template": "A medical image of {label}",
        "predictions": key or run or f"base {base}",
        "n": N,
        "logit_scale": 20.0,
        "validation_logit_scale": 12.0,
    }
    return Evaluation(**values | more)


def make_comparison(models: list[Evaluation], runs: dict[str, RunConfig]) -> Comparison:
    return Comparison(
        id="c",
        sample="s",
        sample_hash="hash",
        sample_config=SampleConfig(),
        sizes={"train": 1, "validation": 1, "test": N},
        synthetic=True,
        runs=runs,
        models=models,
        version="0",
    )


def make_predictions(
    seed: int, skill: float, classes: tuple[str, ...] = CLASSES, captions: bool = True
) -> pd.DataFrame:
    """Cosines of a model with some skill, never tied. Every model has the same pictures; the last class has none."""
    pictures = np.random.default_rng(0)
    target = np.minimum(pictures.integers(0, 6, N), 3)
    texts, text_of = distinct([f"caption {i}" for i in pictures.integers(0, 120, N)])
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.2, 0.1, (N, len(classes)))
    if classes:
        scores[np.arange(N), target] += skill
    features = rng.normal(size=(len(texts), 16))
    images = skill * 5 * features[text_of] + rng.normal(size=(N, 16))
    return predictions_frame(
        [f"picture {i}" for i in range(N)],
        [classes[i] for i in target] if classes else [""] * N,
        scores,
        classes,
        retrieval_ranks(images, features, text_of) if captions else None,
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    models = [
        make_model("base"),
        make_model("base", base="large", logit_scale=100.0, validation_logit_scale=None),
        *(make_model("captions", f"captions-{i}") for i in range(3)),
        make_model("labels", "labels-0", base="large"),
    ]
    runs = {f"captions-{i}": RunConfig(mode="captions", seed=i) for i in range(3)}
    return make_comparison(models, runs | {"labels-0": RunConfig(mode="labels", base="large")})


SKILLS = {"base builtin": 0.05, "base large": 0.06, "captions-0": 0.15, "captions-1": 0.13, "captions-2": 0.17, "labels-0": 0.06}  # fmt: skip


@pytest.fixture(scope="module")
def predictions() -> dict[str, pd.DataFrame]:
    return {name: make_predictions(seed + 1, skill) for seed, (name, skill) in enumerate(SKILLS.items())}


# ---- a third party with the CSV files and other libraries


class ThirdParty:
    """One model's numbers from its CSV file alone, by scikit-learn, statsmodels and scipy."""

    def __init__(self, path, without=()):
        frame = pd.read_csv(path)
        self.frame = frame[~frame["id"].isin(list(without))]
        self.columns = [column for column in frame if column.startswith("score: ")]
        self.classes = np.array([column.removeprefix("score: ") for column in self.columns])
        self.scores = self.frame[self.columns].to_numpy()
        self.labels = self.frame["label"].to_numpy()
        self.answers = self.classes[self.scores.argmax(axis=1)]
        self.right = self.answers == self.labels

    def top(self, k):
        return top_k_accuracy_score(self.labels, self.scores, k=k, labels=self.classes)

    def counts(self):
        """Right and all pictures of each class that has some."""
        counts = confusion_matrix(self.labels, self.answers, labels=self.classes)
        seen = counts.sum(axis=1) > 0
        return self.classes[seen], counts.diagonal()[seen], counts.sum(axis=1)[seen]

    def macro(self):
        present = np.unique(self.labels)
        recall = recall_score(self.labels, self.answers, labels=present, average="macro")
        with warnings.catch_warnings():  # some answers are a class without pictures
            warnings.simplefilter("ignore")
            assert balanced_accuracy_score(self.labels, self.answers) == pytest.approx(recall)
        return recall

    def macro_interval(self):
        _, right, n = self.counts()
        deviation = np.sqrt(right / n * (1 - right / n) / n)
        z = stats.norm.ppf(0.975) * np.sqrt((deviation**2).sum()) / deviation.sum()
        return np.mean(proportion_confint(right, n, 2 * stats.norm.sf(z), "wilson"), axis=1)

    def recall(self, column, k):
        ranks = self.frame[column] if column == "caption_rank" else self.frame.groupby("text")[column].first()
        return (ranks < k).sum(), len(ranks)

    def softmax(self, scale):
        chances = np.exp(scale * self.scores)
        return chances / chances.sum(axis=1, keepdims=True)

    def calibration_error(self, scale):
        sure = self.softmax(scale).max(axis=1)
        table = pd.DataFrame({"sure": sure, "right": self.right, "bin": pd.cut(sure, np.linspace(0, 1, 11))})
        bins = table.groupby("bin", observed=True)
        return ((bins["right"].mean() - bins["sure"].mean()).abs() * bins.size()).sum() / len(table)


def newcombe(base, other):
    """Newcombe's method 10 by statsmodels' Wilson limits and numpy's phi."""
    n = len(base)
    a, b = base.mean(), other.mean()
    (low_a, high_a), (low_b, high_b) = (proportion_confint(right.sum(), n, method="wilson") for right in (base, other))
    phi = np.corrcoef(base, other)[0, 1]
    if phi > 0:  # continuity correction: n / 2 less in the numerator
        phi = max(0, phi - 1 / (2 * n) / np.sqrt(a * (1 - a) * b * (1 - b)))
    down, up = (b - low_b, high_a - a), (high_b - b, a - low_a)
    low, high = (np.sqrt(x**2 - 2 * phi * x * y + y**2) for x, y in (down, up))
    return b - a - low, b - a + high


BASES = {"base large": "base builtin", **{f"captions-{i}": "base builtin" for i in range(3)}, "labels-0": "base large"}


@pytest.mark.parametrize("without", [(), tuple(f"picture {i}" for i in range(0, N, 7))])
def test_a_third_party_gets_every_number_of_the_board_from_the_csv_files(comparison, predictions, tmp_path, without):
    for name, frame in predictions.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    theirs = {name: ThirdParty(tmp_path / f"{name}.csv", without) for name in predictions}
    board = leaderboard(comparison, predictions, without).frame().set_index("model", drop=False)
    checked = {"model", "title", "kind", "seeds", "verdict", "top1_sd", "top3_sd"}  # words and groups, tested elsewhere

    def agrees(name, columns, expected):
        names = [columns] if isinstance(columns, str) else columns
        assert board.loc[name, names].tolist() == pytest.approx(np.ravel(expected).tolist(), abs=1e-9)
        checked.update(names)

    for name, own in theirs.items():
        n = len(own.labels)
        agrees(name, "n", n)
        assert own.top(1) == accuracy_score(own.labels, own.answers)
        for k in (1, 3):
            limits = proportion_confint(round(own.top(k) * n), n, method="wilson")
            agrees(name, [f"top{k}", f"top{k}_low", f"top{k}_high"], [own.top(k), *limits])
        agrees(name, ["macro_top1", "macro_top1_low", "macro_top1_high"], [own.macro(), *own.macro_interval()])
        for said, column in (("caption_recall", "caption_rank"), ("picture_recall", "picture_rank")):
            for k in RETRIEVAL_DEPTHS:
                right, of = own.recall(column, k)
                limits = proportion_confint(right, of, method="wilson")
                agrees(name, [f"{said}_{k}{end}" for end in ("", "_low", "_high")], [right / of, *limits])
        agrees(name, "captions", own.frame["text"].nunique())

    p = {}
    for name, base in BASES.items():
        one, other = theirs[base].right, theirs[name].right
        table = confusion_matrix(one, other, labels=[True, False])
        p[name] = mcnemar(table, exact=True).pvalue
        assert board.loc[name, "base"] == base
        agrees(name, "difference", other.mean() - one.mean())
        agrees(name, ["difference_low", "difference_high"], newcombe(one, other))
        agrees(name, ["fixed", "broken", "p"], [table[1, 0], table[0, 1], p[name]])
    for name, adjusted in zip(p, multipletests(list(p.values()), method="holm")[1], strict=True):
        agrees(name, "p_holm", adjusted)
    assert checked | {"base"} == set(board)

    group = board.loc[""]
    for k in (1, 3):
        over = DescrStatsW([theirs[f"captions-{i}"].top(k) for i in range(3)])
        found = group[[f"top{k}", f"top{k}_low", f"top{k}_high", f"top{k}_sd"]].tolist()
        assert found == pytest.approx([over.mean, *over.tconfint_mean(0.05), np.sqrt(over.nobs / 2) * over.std])


def test_a_third_party_gets_every_number_by_class_from_the_csv_files(comparison, predictions, tmp_path):
    found = per_class(comparison, predictions).set_index(["model", "class"])
    top1 = {}
    for name, frame in predictions.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        names, right, n = ThirdParty(tmp_path / f"{name}.csv").counts()
        low, high = proportion_confint(right, n, method="wilson")
        top1[name] = right / n
        own = found.loc[name]
        assert own.index.tolist() == names.tolist() == list(CLASSES[:4])  # the last has no test pictures
        assert own[["right", "n", "top1", "low", "high"]].to_numpy() == pytest.approx(
            np.array([right, n, top1[name], low, high]).T
        )
    for name in predictions:
        gain = top1[name] - top1[BASES[name]] if name in BASES else np.full(4, np.nan)
        assert found.loc[name, "gain"].tolist() == pytest.approx(gain.tolist(), nan_ok=True)


def test_a_third_party_gets_every_calibration_from_the_csv_files(comparison, predictions, tmp_path):
    learned, fitted = (calibrations(comparison, predictions, fitted=fitted) for fitted in (False, True))
    assert set(fitted) == set(predictions) - {"base large"}  # which has no fitted scale
    for model in comparison.models:
        predictions[model.predictions].to_csv(tmp_path / "p.csv", index=False)
        own = ThirdParty(tmp_path / "p.csv")
        assert learned[model.predictions].ece == pytest.approx(own.calibration_error(model.logit_scale))
        if model.validation_logit_scale:
            assert fitted[model.predictions].ece == pytest.approx(own.calibration_error(model.validation_logit_scale))
        scores, target, _ = scores_of(predictions[model.predictions])
        expected = log_loss(own.labels, own.softmax(20.0), labels=own.classes)  # at 100 it would cut probabilities off
        assert negative_log_likelihood(scores, target, 20.0) == pytest.approx(expected)


# ---- what is held against what


def test_runs_are_held_against_their_base_and_bases_against_the_first(comparison):
    assert bases_of(comparison) == {"base builtin": None, **BASES}


def test_a_run_whose_base_was_not_measured_is_held_against_the_first_base():
    models = [make_model("base"), make_model("labels", "r", base="other")]
    assert bases_of(make_comparison(models, {"r": RunConfig(mode="labels")}))["r"] == "base builtin"


def test_without_a_base_model_nothing_is_held_against_anything(predictions):
    models = [make_model("captions", "captions-0")]
    alone = make_comparison(models, {"captions-0": RunConfig(mode="captions")})
    (standing,) = leaderboard(alone, predictions).standings
    assert (standing.base, standing.difference, standing.sentence) == (None, None, "")
    assert per_class(alone, predictions)["gain"].isna().all()


def test_sentences_follow_the_p_that_is_adjusted_over_the_whole_board(comparison, predictions):
    board = leaderboard(comparison, predictions)
    said = {standing.model: standing for standing in board.standings}
    assert said["base builtin"].sentence == ""
    assert "beat Base, built in by" in said["captions-0"].sentence
    assert said["captions-0"].sentence.endswith("very unlikely to be chance")
    assert "too close to call on 160 pictures" in said["labels-0"].sentence
    assert all(s.difference.p_holm >= s.difference.p for s in board.standings if s.difference)


# ---- seeds


def test_seeds_of_one_setting_are_one_more_row(comparison, predictions):
    board = leaderboard(comparison, predictions)
    (group,) = board.groups
    assert group.title == "Captions, 3 seeds"
    assert group.models == ("captions-0", "captions-1", "captions-2")
    top1 = [standing.top1.value for standing in board.standings if standing.model in group.models]
    assert (group.top1.mean, group.top1.n) == (pytest.approx(np.mean(top1)), 3)
    row = board.frame().iloc[-1]
    assert (row["seeds"], row["title"], row["top1"]) == (3, group.title, group.top1.mean)


def test_a_groups_title_keeps_what_its_models_share_and_drops_their_seeds(predictions):
    models = [make_model("captions", f"r{i}") for i in range(3)]
    runs = {"r0": RunConfig(mode="captions", seed=1), "r1": RunConfig(mode="captions", seed=10)}
    runs["r2"] = RunConfig(mode="captions", epochs=9)
    some = dict(zip(("r0", "r1", "r2"), predictions.values(), strict=False))
    (group,) = leaderboard(make_comparison(models, runs), some).groups
    assert group.title == "Captions, 4 epochs, 2 seeds"


# ---- what is missing


def test_the_board_is_a_table_of_plain_numbers(comparison, predictions):
    frame = leaderboard(comparison, predictions).frame()
    words = {"model", "title", "kind", "base", "verdict"}
    assert all(pd.api.types.is_numeric_dtype(frame[column]) for column in set(frame) - words)
    assert len(frame) == len(comparison.models) + 1


def test_pictures_that_are_left_out_count_nowhere(comparison, predictions):
    without = {"picture 3", "picture 5", "of another sample"}
    rest = {name: frame[~frame["id"].isin(without)] for name, frame in predictions.items()}
    board, expected = leaderboard(comparison, predictions, without), leaderboard(comparison, rest)
    assert (board.n, board.left_out, expected.left_out) == (N - 2, 2, 0)
    assert board.standings == expected.standings and board.groups == expected.groups
    pd.testing.assert_frame_equal(per_class(comparison, predictions, without), per_class(comparison, rest))
    assert calibrations(comparison, predictions, without) == calibrations(comparison, rest)


def test_where_all_pictures_are_left_out_there_are_no_numbers(comparison, predictions):
    without = [f"picture {i}" for i in range(N)]
    board = leaderboard(comparison, predictions, without)
    assert (board.n, board.left_out) == (0, N)
    for standing in board.standings:
        assert standing.top1 is standing.top3 is standing.macro_top1 is standing.difference is None
        assert standing.caption_recall == standing.picture_recall == {} and standing.sentence == ""
    assert board.groups[0].top1 is None
    assert board.frame()["top1"].isna().all()
    assert per_class(comparison, predictions, without).empty
    assert {found.ece for found in calibrations(comparison, predictions, without).values()} == {None}


def test_without_labels_captions_are_what_models_differ_in(comparison):
    unlabelled = {name: make_predictions(7 + i, skill, ()) for i, (name, skill) in enumerate(SKILLS.items())}
    board = leaderboard(comparison, unlabelled)
    assert board.measure == "caption_recall_1"
    first, other = board.standings[0], board.standings[2]
    assert first.top1 is first.top3 is first.macro_top1 is None
    assert other.difference.difference == pytest.approx(other.caption_recall[1].value - first.caption_recall[1].value)
    assert board.groups[0].top1 is None
    assert per_class(comparison, unlabelled).empty
    assert calibrations(comparison, unlabelled) == {}


def test_recall_is_the_evaluations_own(comparison, predictions):
    for standing in leaderboard(comparison, predictions).standings:
        own = retrieval_of(predictions[standing.model])
        assert {k: found.value for k, found in standing.caption_recall.items()} == own.image_to_text
        assert {k: found.value for k, found in standing.picture_recall.items()} == own.text_to_image
        assert standing.picture_recall[1].n == own.n_texts


def test_without_captions_there_is_no_recall(comparison):
    plain = {name: make_predictions(i, skill, captions=False) for i, (name, skill) in enumerate(SKILLS.items())}
    board = leaderboard(comparison, plain)
    assert board.measure == "top1"
    assert all(standing.caption_recall == standing.picture_recall == {} for standing in board.standings)
    assert board.frame()["caption_recall_1"].isna().all()


def test_missing_predictions_are_named(comparison, predictions):
    some = {name: frame for name, frame in predictions.items() if name != "captions-1"}
    for of in (leaderboard, per_class, calibrations):
        with pytest.raises(ComparisonError, match="lacks the predictions of captions-1"):
            of(comparison, some)


def test_predictions_of_other_pictures_are_refused(comparison, predictions):
    other = predictions | {"labels-0": predictions["labels-0"].iloc[::-1]}
    with pytest.raises(ComparisonError, match="labels-0 and base builtin"):
        leaderboard(comparison, other)
