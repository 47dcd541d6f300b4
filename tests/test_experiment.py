"""The whole experiment on sources that lack one of the two texts: what is possible is done, the rest is refused."""

import pytest

from clipdemo.errors import BadSettings
from clipdemo.experiment import both_modes, run_experiment
from clipdemo.progress import finish
from clipdemo.records import RunConfig, SampleConfig
from clipdemo.sampling import load_sample

COLOURS = ("red", "green", "blue", "white", "black", "grey")
CONFIG = SampleConfig(source="tiny", samples=60)


def rows(labels: bool, captions: bool):
    return [
        (("Cat", "Dog")[i % 2] if labels else "", f"a {COLOURS[i % 6]} square, number {i}" if captions else "", "", i)
        for i in range(90)
    ]


@pytest.fixture
def experiment(workspace, tiny_source):
    def run(**texts):
        tiny_source(rows(**texts), classes=None)
        return finish(run_experiment(CONFIG, both_modes(epochs=1, batch_size=16), workspace))

    return run


def test_labels_alone_give_base_and_labels(experiment, workspace):
    comparison = experiment(labels=True, captions=False)
    assert [model.name for model in comparison.models] == ["base", "labels"]
    assert all(model.retrieval is None and model.top1 is not None for model in comparison.models)
    from clipdemo.training.loop import train

    sample = load_sample(workspace, comparison.sample)
    with pytest.raises(BadSettings, match="has no captions.*Fine-tune on labels"):
        finish(train(RunConfig(mode="captions"), sample, workspace))


def test_captions_alone_give_base_and_captions_measured_by_retrieval(experiment, workspace):
    comparison = experiment(labels=False, captions=True)
    assert [model.name for model in comparison.models] == ["base", "captions"]
    for model in comparison.models:
        assert model.top1 is None and model.top3 is None and model.per_class == {}
        assert model.n == model.retrieval.n == 6
        assert 0 <= model.retrieval.image_to_text[1] <= model.retrieval.image_to_text[5] <= 1
    from clipdemo.training.loop import train
    from clipdemo.training.runs import load_run

    run = load_run(workspace, comparison.models[1].run)
    validated = [step.validation_top1 for step in run.steps() if step.validation_top1 is not None]
    assert len(validated) == 2 and all(round(6 * share) == pytest.approx(6 * share) for share in validated)
    sample = load_sample(workspace, comparison.sample)
    for config in (RunConfig(mode="labels"), RunConfig(mode="captions", loss="multi-positive")):
        with pytest.raises(BadSettings, match="has no labels"):
            finish(train(config, sample, workspace))


def test_both_texts_give_class_and_retrieval_numbers(experiment):
    comparison = experiment(labels=True, captions=True)
    assert [model.name for model in comparison.models] == ["base", "captions", "labels"]
    assert all(model.retrieval and model.top1 is not None for model in comparison.models)


def test_captions_alone_can_be_mixed_with_the_base(workspace, tiny_source):
    from clipdemo.sampling import draw_sample
    from clipdemo.training.loop import train

    tiny_source(rows(labels=False, captions=True), classes=None)
    sample = finish(draw_sample(CONFIG, workspace))
    run = finish(train(RunConfig(mode="captions", epochs=1, batch_size=16, interpolation=True), sample, workspace))
    assert run.result.interpolation in (1.0, 0.8, 0.6, 0.4, 0.2)
