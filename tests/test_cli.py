import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clipdemo.jobs import list_jobs
from clipdemo.training.runs import load_run
from clipdemo.workspace import Workspace

SMALL = ["--samples", "120", "--rows", "1200", "--epochs", "1"]


def clipdemo(*arguments, **settings):
    return subprocess.run([sys.executable, "-m", "clipdemo", *arguments], capture_output=True, text=True, **settings)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli")
    run = clipdemo("experiment", *SMALL, "--seed", "3", "--workspace", str(place))
    assert run.returncode == 0, run.stderr
    return place, run


def test_experiment_prints_a_table_and_the_path_of_what_machines_read(experiment):
    place, run = experiment
    path = Path(run.stdout.splitlines()[-1])
    comparison = json.loads(path.read_text())
    assert path.parent.parent == place / "comparisons"
    assert [model["name"] for model in comparison["models"]] == ["base", "captions", "labels"]
    for model in comparison["models"]:
        assert model["n"] == comparison["sizes"]["test"] == sum(c["n"] for c in model["per_class"].values())
        assert model["top1"] == pytest.approx(sum(c["correct"] for c in model["per_class"].values()) / model["n"])
        assert model["top3"] == pytest.approx(sum(c["top3"] for c in model["per_class"].values()) / model["n"])
        assert f"{100 * model['top1']:.1f} %" in run.stdout
    assert comparison["sample_hash"]
    assert comparison["sample_config"]["seed"] == 3
    assert {config["seed"] for config in comparison["runs"].values()} == {3}
    assert "synthetic" in run.stdout


def test_the_same_seed_gives_the_same_comparison_number_for_number(experiment, tmp_path):
    _, first = experiment
    again = clipdemo("experiment", *SMALL, "--seed", "3", "--workspace", str(tmp_path))
    assert Path(again.stdout.splitlines()[-1]).read_text() == Path(first.stdout.splitlines()[-1]).read_text()


def test_the_parts_make_the_same_comparison_as_the_whole(experiment):
    place, whole = experiment
    at = ["--workspace", str(place)]
    sample = clipdemo("sample", *SMALL[:4], "--seed", "3", *at).stdout.splitlines()[-1]
    found = []
    for mode in ("captions", "labels"):
        run = clipdemo("train", "--mode", mode, "--sample", sample, "--epochs", "1", "--seed", "3", *at)
        found.append(clipdemo("evaluate", "--sample", sample, "--run", run.stdout.splitlines()[-1], *at))
    found.append(clipdemo("evaluate", "--sample", sample, *at))
    compared = clipdemo("compare", *[run.stdout.splitlines()[-1] for run in found], *at)
    assert compared.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["experiment", "--source", "nowhere"], "source 'nowhere' is not known: choose one of phantom"),
        (["experiment", "--test", "0.3"], "must add up to 1"),
        (["sample", "--synonym", "pelvis"], "write WORDING=CLASS"),
        (["sample", "--rows", "many"], "rows = 'many'"),
        (["sample", "--path", "/tmp"], "path is no setting of source 'phantom'"),
        (["sample", "--source", "folder", "--path", "/no/such"], "there is no such file or folder"),
        (["sample", "--source", "hub"], "write --dataset OWNER/NAME"),
        (["look", "--source", "folder"], "write --path"),
        (["experiment", "--epochs", "0"], "epochs = 0"),
        (["experiment", "--template", "no label"], "template"),
        (["train", "--mode", "labels", "--sample", "nothing"], "there is no sample 'nothing'"),
        (["train", "--mode", "labels", "--sample", "../../etc"], "not the name of anything"),
        (["evaluate", "--sample", "nothing"], "there is no sample"),
        (["compare", "nothing"], "there is no evaluation 'nothing'"),
        (["compare"], "say which models"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tmp_path, arguments, says):
    run = clipdemo(*arguments, "--workspace", str(tmp_path))
    assert run.returncode == 2
    assert says in run.stderr
    assert [line for line in run.stderr.splitlines() if line.startswith("error: ")] == [run.stderr.splitlines()[-1]]
    assert "Traceback" not in run.stderr
    workspace = Workspace(tmp_path)
    assert [name for kind in ("samples", "runs", "comparisons") for name in workspace.names(kind)] == []


def test_an_unwritable_workspace_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    run = clipdemo("experiment", "--workspace", str(tmp_path / "file"))
    assert run.returncode == 2
    assert "cannot write to" in run.stderr


def test_a_full_disk_is_one_line_and_leaves_nothing_half_made(tmp_path):
    """No file may grow past 20 kB, as on a disk with nothing left: the manifest does not fit."""
    limit = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000,) * 2); runpy.run_module('clipdemo', run_name='__main__')"
    )
    arguments = ["sample", "--samples", "48", "--rows", "1200", "--workspace", str(tmp_path)]
    run = subprocess.run([sys.executable, "-c", limit, *arguments], capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "no space left" in run.stderr
    assert Workspace(tmp_path).names("samples") == []


@pytest.mark.parametrize("stage", ["sample", "captions"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_broken_experiment_leaves_a_workspace_that_works(tmp_path, stage, sent):
    """Ctrl-C or kill -9 in the middle; then the same command does the whole thing."""
    command = [sys.executable, "-m", "clipdemo", "experiment", *SMALL, "--workspace", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has us ignore Ctrl-C
    )
    workspace = Workspace(tmp_path)
    while not (list_jobs(workspace) and stage in list_jobs(workspace)[0].progress):
        assert process.poll() is None
    os.kill(process.pid, sent)
    code = process.wait()
    assert code == (130 if sent == signal.SIGINT else -sent)
    assert list_jobs(workspace)[0].state == ("stopped" if sent == signal.SIGINT else "interrupted")
    again = clipdemo("experiment", *SMALL, "--workspace", str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert json.loads(Path(again.stdout.splitlines()[-1]).read_text())["models"]


def test_help_is_there_for_every_command():
    for command in ("experiment", "sample", "train", "evaluate", "compare"):
        run = clipdemo(command, "--help")
        assert run.returncode == 0
        assert "--workspace" in run.stdout


def test_a_run_is_followed_stopped_resumed_and_extended_from_other_terminals(tmp_path):
    at = ("--workspace", str(tmp_path))
    sample = clipdemo("sample", "--samples", "48", "--rows", "1200", *at).stdout.splitlines()[-1]
    asked = ["train", "--mode", "labels", "--sample", sample, "--batch-size", "16", "--epochs", "30", *at]
    first = subprocess.Popen([sys.executable, "-m", "clipdemo", *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    place = Workspace(tmp_path)
    while not (measured := list(tmp_path.glob("runs/*/metrics.jsonl"))) or measured[0].read_text().count("\n") < 2:
        assert first.poll() is None, first.stderr.read()
    run = measured[0].parent.name
    assert "running" in clipdemo("runs", *at).stdout
    stop = clipdemo("stop", run, *at)
    assert "go on later" in stop.stdout
    followed = clipdemo("follow", run, *at)
    assert followed.returncode == 1 and "stopped to go on later" in followed.stdout
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert load_run(place, run).result.epochs_done < 30
    assert "has ended already" in clipdemo("stop", run, *at).stderr

    assert clipdemo("resume", run, *at).stdout.splitlines()[-1] == run
    assert load_run(place, run).result.state == "finished" and load_run(place, run).result.epochs_done == 30
    longer = clipdemo("extend", run, "--epochs", "1", *at).stdout.splitlines()[-1]
    assert load_run(place, longer).config.continues == run
    assert clipdemo("runs", *at).stdout.count("finished") == 2
