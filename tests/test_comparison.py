import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from clipdemo import comparison as module
from clipdemo.cli import app
from clipdemo.comparison import (
    all_predictions,
    class_scores,
    compare,
    evaluate,
    in_short,
    load_comparison,
    load_evaluation,
    load_predictions,
    measure,
    reworded,
)
from clipdemo.embeddings import as_kept
from clipdemo.errors import ClipDemoError, ComparisonError
from clipdemo.evaluation import evaluate_scores, fit_logit_scale, retrieval_of, scores_of
from clipdemo.models import Clip, open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import finish
from clipdemo.records import ClassScore, CleaningRules, Evaluation, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.training.runs import begin_run
from tests import workspace_factory as factory
from tests.training.test_loop import small_base


@pytest.fixture
def sample(workspace, tiny_source):
    tiny_source([("Cat" if i % 2 else "Dog", f"caption {i}", "", i) for i in range(60)], classes=("Cat", "Dog"))
    return finish(draw_sample(SampleConfig(source="tiny", samples=40), workspace))


def evaluation(name, of, **changes):
    score = ClassScore(correct=1, top3=2, n=2)
    values = {"name": name, "run": None, "base": "builtin", "sample": of.id, "sample_hash": of.content_hash}
    values |= {"template": "a {label}", "predictions": f"{name}-1", "top1": 0.5, "top3": 1, "n": 4, "logit_scale": 9}
    return Evaluation(**values | {"per_class": {"Cat": score, "Dog": score}} | changes)


def test_models_stand_in_the_order_of_the_paper_and_are_found_again(workspace, sample):
    comparison = compare([evaluation("labels", sample), evaluation("base", sample)], workspace)
    assert [model.name for model in comparison.models] == ["base", "labels"]
    assert load_comparison(workspace, comparison.id) == comparison
    assert compare([evaluation("base", sample), evaluation("labels", sample)], workspace) == comparison
    assert workspace.names("comparisons") == [comparison.id]


def test_models_measured_on_other_pictures_are_refused(workspace, sample):
    other = evaluation("labels", sample, sample="another-sample", sample_hash="0")
    with pytest.raises(ComparisonError, match=r"labels was measured on sample another-sample and base on tiny"):
        compare([evaluation("base", sample), other], workspace)


def test_nothing_cannot_be_compared(workspace):
    with pytest.raises(ComparisonError, match="nothing to compare"):
        compare([], workspace)


def test_a_run_without_an_end_is_not_measured(workspace, sample):
    run = begin_run(RunConfig(mode="labels"), sample, workspace)
    with pytest.raises(ComparisonError, match="has not ended"):
        finish(evaluate(sample, workspace, run))


def test_a_run_of_another_sample_is_not_measured(workspace, sample):
    run = begin_run(RunConfig(mode="labels"), sample, workspace)
    other = finish(draw_sample(SampleConfig(source="tiny", samples=40, seed=1), workspace))
    with pytest.raises(ComparisonError, match=f"was trained on sample {sample.id}"):
        finish(evaluate(other, workspace, run))


@pytest.mark.parametrize("name", ["nothing"])
def test_a_missing_comparison_is_named(workspace, name):
    with pytest.raises(ComparisonError, match="no comparison 'nothing'"):
        load_comparison(workspace, name)


# ---- real models, so small that measuring takes no time


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def run(workspace, sample, base):
    return factory.make_real_run(workspace, sample, RunConfig(mode="labels", base=base))


@pytest.fixture
def encoded(monkeypatch):
    """What was encoded: ("images" or "texts", how many), one a call."""
    calls = []
    for what in ("images", "texts"):
        encode = getattr(Clip, f"encode_{what}")

        def counting(clip, given, encode=encode, what=what):
            calls.append((what, len(given)))
            return encode(clip, given)

        monkeypatch.setattr(Clip, f"encode_{what}", counting)
    return calls


def test_an_evaluation_keeps_test_and_validation_predictions_and_both_scales(workspace, sample, base):
    found = finish(evaluate(sample, workspace, base=base))
    clip = open_model(base)
    assert found.logit_scale == clip.logit_scale
    for split in ("test", "validation"):
        frame, rows = load_predictions(workspace, found, split), sample.rows(split)
        assert frame["id"].tolist() == rows["id"].tolist() and frame["label"].tolist() == rows["label"].tolist()
        scores, target, classes = scores_of(frame)
        assert classes == list(sample.classes)
        pixels = finish(sample_pixels(sample, clip.image_size, workspace))[rows.index.to_numpy()]
        obvious = as_kept(clip.encode_images(pixels)) @ clip.encode_classes(sample.classes).T
        np.testing.assert_array_equal(scores, obvious)
        if split == "validation":
            assert found.validation_logit_scale == fit_logit_scale(scores, target)
    test = load_predictions(workspace, found)
    assert found.retrieval == retrieval_of(test) is not None
    numbers = evaluate_scores(scores_of(test)[0], test["label"].tolist(), sample.classes)
    assert numbers == {name: getattr(found, name) for name in ("top1", "top3", "n", "per_class")}
    assert in_short(found) == f"top-1 {100 * found.top1:.1f} % of {found.n}"
    assert load_evaluation(workspace, found.predictions) == found


def test_measured_twice_is_measured_once(workspace, sample, base, encoded):
    first = finish(evaluate(sample, workspace, base=base))
    assert [what for what, _ in encoded].count("images") == 2  # test and validation
    encoded.clear()
    assert finish(evaluate(sample, workspace, base=base)) == first
    assert encoded == []


def test_another_template_is_another_evaluation_of_the_same_embeddings(workspace, sample, base, encoded):
    first = finish(evaluate(sample, workspace, base=base))
    encoded.clear()
    second = finish(evaluate(sample, workspace, base=base, template="{label}!"))
    assert {what for what, _ in encoded} == {"texts"}
    assert first.predictions != second.predictions and len(workspace.names("evaluations")) == 2
    assert not load_predictions(workspace, first).equals(load_predictions(workspace, second))


def test_another_format_is_measured_anew(workspace, sample, base, monkeypatch):
    first = finish(evaluate(sample, workspace, base=base))
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert finish(evaluate(sample, workspace, base=base)).predictions != first.predictions


def test_a_broken_off_measurement_leaves_no_evaluation(workspace, sample, base):
    activity = evaluate(sample, workspace, base=base)
    told = [next(activity) for _ in range(4)]
    activity.close()
    assert told[0].note == "opening the model"
    assert workspace.names("evaluations") == []
    assert finish(evaluate(sample, workspace, base=base)).n == len(sample.rows("test"))


@pytest.mark.parametrize("text", ["captions", "labels"])
def test_a_sample_with_one_kind_of_text_has_its_numbers_only(workspace, sample, base, text):
    config = sample.config.model_copy(update={"cleaning": CleaningRules(texts=text)})
    of = finish(draw_sample(config, workspace))
    found = finish(evaluate(of, workspace, base=base))
    assert (found.top1 is None, found.validation_logit_scale is None) == (text == "captions",) * 2
    assert (found.retrieval is None) == (text == "labels")
    assert in_short(found).startswith("top-1" if text == "labels" else "recall@1")
    assert finish(measure(of, workspace, bases=[base])).models == [found]


def test_measure_puts_bases_and_runs_side_by_side_each_with_its_own_sentence(workspace, sample, base, run, encoded):
    config = RunConfig(mode="captions", base=base, template="a {label}")
    runs = [run, factory.make_real_run(workspace, sample, config)]
    found = finish(measure(sample, workspace, runs, [base, base], "one {label}"))
    assert [(m.name, m.template) for m in found.models] == [
        ("base", "one {label}"),
        ("captions", "a {label}"),
        ("labels", run.config.template),
    ]
    assert found.runs == {r.id: r.config for r in runs}
    assert set(all_predictions(workspace, found)) == {m.predictions for m in found.models}
    encoded.clear()
    assert finish(measure(sample, workspace, runs, [base], "one {label}")) == found
    assert encoded == []


# ---- other sentences


@pytest.mark.parametrize("split", ["test", "validation"])
def test_its_own_template_gives_exactly_the_saved_scores(workspace, sample, run, split):
    found = finish(evaluate(sample, workspace, run, template=run.config.template))
    clip = open_model(found.base, run.weights)
    again = finish(reworded(clip, found, sample, workspace, found.template, {}, split))
    saved = load_predictions(workspace, found, split)
    pd.testing.assert_frame_equal(again, saved[again.columns], check_exact=True)
    names = {label: [label.lower()] for label in sample.classes}  # what a class is called anyhow
    named = finish(reworded(clip, found, sample, workspace, found.template, names, split))
    pd.testing.assert_frame_equal(named, again, check_exact=True)


def test_other_sentences_encode_texts_again_and_pictures_never(workspace, sample, base, encoded):
    found = finish(evaluate(sample, workspace, base=base))
    clip = open_model(base)
    encoded.clear()
    for split in ("test", "validation"):
        again = finish(
            reworded(clip, found, sample, workspace, "a {label}|the {label}", {"Cat": ["tom", "puss"]}, split)
        )
        assert not again.equals(load_predictions(workspace, found, split)[again.columns])
    assert encoded == [("texts", 6)] * 2  # two sentences each for tom, puss and dog


def test_several_sentences_are_the_mean_of_each(base):
    clip = open_model(base)
    images = np.eye(clip.encode_texts(["x"]).shape[1], dtype=np.float32)
    both = class_scores(clip, images, ["Cat", "Dog"], "a {label}|the {label}").T
    for row, name in zip(both, ("cat", "dog"), strict=True):
        total = clip.encode_texts([f"a {name}"])[0] + clip.encode_texts([f"the {name}"])[0]
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-6)


# ---- files that are damaged or of another version


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


DAMAGES = {
    "truncated": cut,
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_bytes(b"GIF89a and so on"),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "other columns": lambda path: pd.DataFrame({"colour": ["red"]}).to_parquet(path),
    "no rows": lambda path: pd.read_parquet(path)[:0].to_parquet(path),
}


@pytest.fixture
def measured(workspace):
    return factory.make_comparison(workspace, factory.make_sample(workspace))


@pytest.mark.parametrize(
    "damage",
    list(DAMAGES),
)
@pytest.mark.parametrize("split", ["test", "validation"])
def test_damaged_predictions_are_named_with_the_way_out(workspace, measured, split, damage):
    model = measured.models[1]
    file = "predictions.parquet" if split == "test" else "validation.parquet"
    DAMAGES[damage](workspace.folder("evaluations", model.predictions) / file)
    with pytest.raises(ComparisonError, match=f"{model.predictions}/{file} cannot be read .*measure captions again"):
        load_predictions(workspace, model, split)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("other columns", "no rows")])
@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_a_damaged_record_is_one_clear_line(workspace, measured, kind, damage):
    name = measured.id if kind == "comparison" else measured.models[0].predictions
    path = workspace.folder(f"{kind}s", name) / f"{kind}.json"
    DAMAGES[damage](path)
    load = {"evaluation": load_evaluation, "comparison": load_comparison}[kind]
    with pytest.raises(ClipDemoError, match=kind) as caught:
        load(workspace, name)
    assert "\n" not in str(caught.value)


CHANGES = {
    "field of a later version": lambda values: values | {"new_field": 1},
    "field that is missing": lambda values: {k: v for k, v in values.items() if k != "sample_hash"},
    "value that cannot be": lambda values: values | {"sample_hash": None},
    "list": lambda values: [values],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_a_record_of_another_version_says_so(workspace, measured, kind, change):
    name = measured.id if kind == "comparison" else measured.models[0].predictions
    path = workspace.folder(f"{kind}s", name) / f"{kind}.json"
    path.write_text(json.dumps(CHANGES[change](json.loads(path.read_text()))))
    load = {"evaluation": load_evaluation, "comparison": load_comparison}[kind]
    with pytest.raises(ClipDemoError, match="does not hold an object" if change == "list" else "another version"):
        load(workspace, name)


@pytest.mark.parametrize("name", ["nothing", "../evaluations", "", "A"])
def test_an_evaluation_that_is_not_there_is_named(workspace, name):
    with pytest.raises(ClipDemoError, match=f"{name!r}"):
        load_evaluation(workspace, name)


# ---- the commands


def command(*arguments):
    found = CliRunner().invoke(app, [str(part) for part in arguments])
    return found.exit_code, found.output


def test_the_commands_measure_and_compare_what_the_library_does(workspace, sample, base, run):
    at = ["--workspace", workspace.root]
    codes, ids = [], []
    for models in (["--base", base], ["--run", run.id]):
        code, said = command("evaluate", "--sample", sample.id, *models, *at)
        codes.append(code)
        ids.append(said.split()[-1])
    assert codes == [0, 0] and set(ids) == set(workspace.names("evaluations"))
    code, by_ids = command("compare", *ids, *at)
    assert code == 0 and workspace.names("comparisons")[0] in by_ids
    code, by_sample = command("compare", "--sample", sample.id, "--run", run.id, *at)  # with its own base by itself
    assert code == 0 and len(workspace.names("comparisons")) == 1
    assert "Base" in by_sample and "Labels" in by_sample


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "--sample", "none"], "there is no sample"),
        (["evaluate", "--sample", "SAMPLE", "--run", "none"], "there is no run"),
        (["evaluate", "--sample", "SAMPLE", "--base", "nonsense"], "NAME:PRETRAINED"),
        (["compare"], "say which models"),
        (["compare", "an-id", "--sample", "SAMPLE"], "say which models"),
        (["compare", "an-id"], "no evaluation 'an-id'"),
        (["compare", "--sample", "SAMPLE", "--run", "none"], "there is no run"),
    ],
)
def test_a_command_that_cannot_be_is_one_line_and_code_2(workspace, sample, arguments, says):
    arguments = [sample.id if part == "SAMPLE" else part for part in arguments]
    code, said = command(*arguments, "--workspace", workspace.root)
    assert code == 2 and says in " ".join(said.split())
    assert "Traceback" not in said


@pytest.mark.parametrize("template", ["{name}", "no braces", "{label", "{label} {label}", "{0}"])
def test_a_sentence_that_cannot_be_is_one_line_and_code_2(workspace, sample, base, template):
    asked = ["--sample", sample.id, "--base", base, "--template", template, "--workspace", workspace.root]
    for name in ("evaluate", "compare"):
        code, said = command(name, *asked)
        assert code == 2 and "{label}" in said
    assert workspace.names("evaluations") == []


def test_a_damaged_evaluation_is_measured_again_as_its_message_promises(workspace, sample, base):
    found = finish(evaluate(sample, workspace, base=base))
    path = workspace.folder("evaluations", found.predictions) / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new_field": 1}))
    with pytest.raises(ComparisonError, match="measure it again"):
        load_evaluation(workspace, found.predictions)
    assert finish(evaluate(sample, workspace, base=base)) == found


def test_a_damaged_comparison_is_made_again_as_its_message_promises(workspace, measured):
    path = workspace.folder("comparisons", measured.id) / "comparison.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new_field": 1}))
    with pytest.raises(ComparisonError, match="compare its models again"):
        load_comparison(workspace, measured.id)
    compare(measured.models, workspace)
    assert load_comparison(workspace, measured.id) == measured
