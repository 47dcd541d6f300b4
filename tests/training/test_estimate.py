"""What a measurement tells of a run, what it leaves behind, and when it is not needed again."""

import numpy as np
import pytest
from typer.testing import CliRunner

from clipdemo.cli import app
from clipdemo.errors import BadSettings
from clipdemo.jobs import list_jobs
from clipdemo.progress import finish
from clipdemo.queues import waiting
from clipdemo.records import RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.training import estimate as estimating
from clipdemo.training.estimate import Estimate, estimate, known_estimate
from clipdemo.training.loop import MIXES, train
from clipdemo.training.pairs import Pairs

CONFIG = RunConfig(mode="labels", epochs=2, batch_size=16)


@pytest.fixture
def sample(workspace, tiny_source, monkeypatch):
    monkeypatch.setattr(estimating, "SECONDS", 0.0)  # as few steps as may be
    tiny_source([("Cat" if i % 2 else "Dog", f"caption {i}", "", i) for i in range(90)], classes=("Cat", "Dog"))
    return finish(draw_sample(SampleConfig(source="tiny", samples=80), workspace))


def made_up(**parts: object) -> Estimate:
    values = {
        "device": "cpu", "device_name": "made-up", "precision": "float32", "chunk_size": 16, "epochs": 3,
        "interpolation": False, "epoch_steps": 10, "opening_seconds": 4.0, "step_seconds": 0.5,
        "validation_seconds": 1.0, "saving_seconds": 0.25, "memory_bytes": 10**9, "device_bytes": 8 * 10**9,
        "steps_measured": 4,
    }  # fmt: skip
    return Estimate(**values | parts)


def test_a_run_is_opening_the_base_once_validated_and_its_epochs():
    assert made_up().seconds == 4 + 1 + 3 * (10 * 0.5 + 1 + 0.25)
    assert made_up(interpolation=True).seconds == made_up().seconds + len(MIXES) * 1


def test_a_measurement_tells_the_runs_own_steps_and_leaves_no_run(workspace, sample):
    told = finish(estimate(CONFIG, sample, workspace))
    assert workspace.names("runs") == []
    assert [path.name for path in (workspace.root / ".partial").iterdir() if path.is_dir()] == []
    assert told.steps_measured == estimating.STEPS
    assert 0 < told.step_seconds < told.seconds and told.validation_seconds > 0 and told.saving_seconds > 0
    assert 0 < told.memory_bytes < told.device_bytes
    run = finish(train(CONFIG, sample, workspace))
    assert told.epoch_steps * told.epochs == run.result.steps
    assert (told.device, told.precision, told.chunk_size) == (
        run.result.device, run.result.precision, run.result.chunk_size,
    )  # fmt: skip


def test_a_run_has_the_same_bits_with_and_without_a_measurement_before(workspace, sample):
    run = finish(train(CONFIG, sample, workspace))
    without = run.weights.read_bytes()
    workspace.delete("runs", run.id)
    finish(estimate(CONFIG, sample, workspace))
    assert finish(train(CONFIG, sample, workspace)).weights.read_bytes() == without


def test_the_same_speed_is_measured_once(workspace, sample, monkeypatch):
    told = finish(estimate(CONFIG, sample, workspace))
    monkeypatch.setattr(estimating, "_measured", lambda *_: pytest.fail("measured again"))
    longer = RunConfig(**CONFIG.model_dump() | {"epochs": 5, "learning_rate": 1e-5, "seed": 7, "patience": 2})
    again = finish(estimate(longer, sample, workspace))
    assert again == told.model_copy(update={"epochs": 5})


@pytest.mark.parametrize(
    "changed",
    [{"batch_size": 8}, {"tune": "lora"}, {"augmentation": "light"}, {"averaging": 0.9}, {"mode": "captions"}],
)
def test_settings_of_another_speed_are_not_known(workspace, sample, changed):
    remember(workspace, sample, CONFIG)
    assert known_estimate(CONFIG, sample, workspace)
    assert known_estimate(RunConfig(**CONFIG.model_dump() | changed), sample, workspace) is None


def remember(workspace, sample, config, text=None):
    path = estimating._path(config, sample, workspace)
    path.parent.mkdir(exist_ok=True)
    path.write_text(made_up().model_dump_json() if text is None else text)


def test_another_device_is_not_known(workspace, sample, monkeypatch):
    monkeypatch.setenv("CLIPDEMO_DEVICE", "cpu")
    remember(workspace, sample, CONFIG)
    monkeypatch.setenv("CLIPDEMO_DEVICE", "cuda:1")
    assert known_estimate(CONFIG, sample, workspace) is None


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"device": 1}'])
def test_a_damaged_measurement_is_not_known(workspace, sample, text):
    remember(workspace, sample, CONFIG, text)
    assert known_estimate(CONFIG, sample, workspace) is None


def test_what_was_stopped_leaves_nothing(workspace, sample):
    for progress in (activity := estimate(CONFIG, sample, workspace)):
        if progress.note.startswith("step"):
            activity.close()
    assert [path.name for path in (workspace.root / ".partial").iterdir() if path.is_dir()] == []
    assert known_estimate(CONFIG, sample, workspace) is None


def test_of_many_validation_pictures_a_share_is_looked_at():
    splits = np.array(["train"] * 10 + ["validation"] * 1024)
    splits.setflags(write=False)
    nothing = np.zeros((len(splits), 1), dtype=np.int32)
    pairs = Pairs("labels", nothing, nothing, nothing, nothing[:, 0], splits)
    assert estimating._validate_less(pairs) == 0.25
    assert pairs.split("validation").tolist() == list(range(10, 10 + 256))
    assert len(pairs.split("train")) == 10


def test_a_sample_without_captions_is_refused(workspace, tiny_source):
    tiny_source([("Cat" if i % 2 else "Dog", "", "", i) for i in range(40)], classes=("Cat", "Dog"))
    sample = finish(draw_sample(SampleConfig(source="tiny", samples=30), workspace))
    with pytest.raises(BadSettings, match="has no captions"):
        finish(estimate(RunConfig(mode="captions"), sample, workspace))


def test_the_command_takes_its_turn_and_prints_time_and_memory(workspace, sample):
    arguments = ["estimate", "--mode", "labels", "--sample", sample.id, "--batch-size", "16", "--epochs", "2"]
    said = CliRunner().invoke(app, [*arguments, "--workspace", str(workspace.root)])
    assert said.exit_code == 0, said.output
    assert "2 epochs of 4 steps" in said.output and "GB of memory at most" in said.output
    (job,) = list_jobs(workspace)
    assert job.state == "finished" and waiting(workspace) == []
    assert (workspace.root / "queue").is_dir()  # it had a ticket
    assert known_estimate(CONFIG, sample, workspace)
