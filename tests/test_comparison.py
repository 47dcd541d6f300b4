import pytest

from clipdemo.comparison import compare, evaluate, load_comparison
from clipdemo.errors import ComparisonError
from clipdemo.progress import finish
from clipdemo.records import ClassScore, Evaluation, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.training.runs import begin_run


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
