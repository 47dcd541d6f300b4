import pytest

from clipdemo.errors import BadSettings
from clipdemo.experiment import runs_for
from clipdemo.presets import MOST_EPOCHS, PRESETS, configured, enough_epochs, preset
from clipdemo.records import MODES, RunConfig, SampleConfig


def test_few_pictures_are_passed_over_more_often_and_never_less_than_by_default():
    assert [enough_epochs(n) for n in (3276, 1638, 816, 64, 1, 10**6)] == [
        4,
        8,
        MOST_EPOCHS,
        MOST_EPOCHS,
        MOST_EPOCHS,
        4,
    ]


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"plain"}))
@pytest.mark.parametrize("mode", MODES)
def test_other_presets_know_their_passes(name, mode):
    assert preset(name, mode, 64) == preset(name, mode)


def test_what_is_given_wins_even_where_it_is_the_default():
    default = RunConfig(mode="labels").epochs
    assert configured("plain", "labels", {}, 64).epochs == MOST_EPOCHS
    assert configured("plain", "labels", {"epochs": default}, 64).epochs == default
    assert configured("thorough", "labels", {"patience": 0}).patience == 0


def test_an_experiment_passes_over_its_training_pictures_as_often_as_a_run_on_them():
    sample = SampleConfig(samples=1024)
    for run in runs_for(sample, settings={"seed": 3}):
        assert run == configured("plain", run.mode, {"seed": 3}, 819)


def test_an_unknown_preset_is_named():
    with pytest.raises(BadSettings, match="preset = 'best' is not known"):
        preset("best", "labels")
