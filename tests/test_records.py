import pytest

from clipdemo.errors import BadSettings
from clipdemo.records import CleaningReport, DroppedRows, RunConfig, SampleConfig, paper_learning_rate, percent


def test_fractions_must_add_up_and_the_message_shows_the_sum():
    with pytest.raises(BadSettings, match=r"train 0\.8 \+ validation 0\.1 \+ test 0\.2 = 1\.1"):
        SampleConfig(test=0.2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"samples": 3}, "samples = 3"),
        ({"seed": -1}, "seed = -1"),
        ({"train": 1.0, "validation": 0.0, "test": 0.0}, "all three splits"),
        ({"smaples": 10}, "smaples"),
        ({"samples": "many"}, "samples = 'many'"),
    ],
)
def test_a_bad_sample_setting_is_named_with_its_value(settings, says):
    with pytest.raises(BadSettings, match=says) as caught:
        SampleConfig(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mode": "both"}, "mode = 'both'"),
        ({"mode": "labels", "epochs": 0}, "epochs = 0"),
        ({"mode": "labels", "batch_size": 1}, "batch_size = 1"),
        ({"mode": "labels", "learning_rate": float("nan")}, "learning_rate = nan"),
        ({"mode": "labels", "template": "a picture"}, "template"),
        ({"mode": "labels", "template": "{label} of {patient}"}, "template"),
        ({"mode": "labels", "loss": "l2"}, "loss = 'l2'"),
    ],
)
def test_a_bad_run_setting_is_named(settings, says):
    with pytest.raises(BadSettings, match=says):
        RunConfig(**settings)


def test_settings_survive_json_and_keep_their_digest():
    config = RunConfig(mode="captions", learning_rate=1e-4)
    again = RunConfig(**RunConfig.model_validate_json(config.model_dump_json()).model_dump())
    assert again == config
    assert again.digest() == config.digest()
    assert RunConfig(mode="labels", learning_rate=1e-4).digest() != config.digest()


def test_the_digest_is_the_same_on_every_machine():
    assert SampleConfig().digest() == "f86169ba"


def test_the_paper_rule_scales_the_pretraining_rate():
    assert paper_learning_rate(32_768) == 5e-4
    assert paper_learning_rate(64) == pytest.approx(9.765625e-7)


def test_a_report_that_does_not_add_up_is_refused():
    dropped = [DroppedRows(reason="x", count=3)]
    fine = {"rows": 10, "dropped": dropped, "sampled": 5, "not_drawn": 2, "relabelled": 0, "source_classes": {}}
    assert CleaningReport(**fine).kept == 7
    with pytest.raises(BadSettings, match="does not add up"):
        CleaningReport(**fine | {"sampled": 6})


def test_percent():
    assert percent(0.6434) == "64.3 %"
    assert percent(float("nan")) == "–"
