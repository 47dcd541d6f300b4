"""Two and four processes on this machine. They are started once for all tests, and talk through 127.0.0.1 alone."""

import json
import multiprocessing
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import open_clip
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from clipdemo import sampling
from clipdemo.errors import BadSettings, TrainingError
from clipdemo.models import Clip, open_model
from clipdemo.progress import finish
from clipdemo.records import RunConfig, SampleConfig
from clipdemo.sampling import load_sample
from clipdemo.training import loop
from clipdemo.training.distributed import Ranks
from clipdemo.training.gradients import accumulate_gradient
from clipdemo.training.loop import train
from clipdemo.training.pairs import Pairs
from clipdemo.training.runs import load_run, run_id
from clipdemo.workspace import Workspace

SIZES = (2, 4)
SAMPLE = SampleConfig(samples=120, options={"rows": 1200})  # 96 for training, 12 for validation
TWENTY_STEPS = {"mode": "captions", "epochs": 5, "batch_size": 22, "learning_rate": 1e-3}  # 5 epochs of 4 steps
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


# ---- processes


class Processes:
    """Four processes, of which as many as a test wants work together."""

    def __init__(self, folder):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["open_clip", "clipdemo.training.loop"])  # imported once, not four times
        self.folder, self.calls = folder, 0
        self.pipes, self.members = [], []
        for _ in range(max(SIZES)):
            ours, theirs = context.Pipe()
            self.members.append(context.Process(target=_serve, args=(theirs,), daemon=True))
            self.members[-1].start()
            theirs.close()
            self.pipes.append(ours)

    def run(self, size, work, *arguments):
        """What `work(ranks, *arguments)` returned on each of `size` ranks. Its error, where there was one."""
        self.calls += 1
        meeting = self.folder / f"meeting-{self.calls}"
        for rank, pipe in enumerate(self.pipes[:size]):
            pipe.send((meeting, rank, size, work, arguments))
        answers = []
        for pipe in self.pipes[:size]:
            assert pipe.poll(120), "a process does not answer"
            answers.append(pipe.recv())
        told = [said for said, _ in answers if said]
        assert not told, "\n".join(told)
        return [value for _, value in answers]

    def end(self):
        for member in self.members:
            member.kill()
            member.join()


def _serve(pipe):
    """A process's life: meet, work, answer, part."""
    os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK
    torch.set_num_threads(1)
    while True:
        meeting, rank, size, work, arguments = pipe.recv()
        os.environ["WORLD_SIZE"] = str(size)
        dist.init_process_group("gloo", f"file://{meeting}", timedelta(seconds=60), size, rank)
        try:
            pipe.send(("", work(Ranks.join(torch.device("cpu")), *arguments)))
        except BaseException:
            pipe.send((traceback.format_exc(), None))
        finally:
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = Processes(tmp_path_factory.mktemp("processes"))
    yield started
    started.end()


# ---- what ranks do


@pytest.mark.parametrize("n", [1, 2, 7, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_everything_in_order_and_differ_by_one_at_most(size, n):
    shares = [np.arange(n)[Ranks(rank, size).share(n)] for rank in range(size)]
    assert np.concatenate(shares).tolist() == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_alone_talks_to_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in ("init_process_group", "all_gather", "all_reduce", "broadcast_object_list", "barrier"):
        monkeypatch.setattr(dist, name, None)
    ranks, x = Ranks.join(torch.device("cpu")), torch.ones(3)
    ranks.add_up([x])
    ranks.wait()
    assert ranks.writes
    assert ranks.gather(x, 3) is x
    assert ranks.same_everywhere("said") == "said"
    assert torch.equal(x, torch.ones(3))


def test_on_gpus_each_process_takes_its_own_before_they_meet(monkeypatch):
    """Else NCCL would send everybody's values and barriers through the first one."""
    done = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(device))
    monkeypatch.setattr(dist, "init_process_group", lambda backend: done.append(backend))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    ranks = Ranks.join(torch.device("cuda", 1))
    assert (ranks.rank, ranks.size) == (1, 2)
    assert done == [torch.device("cuda", 1), "nccl"]


def gathered(ranks, n):
    """A rank's rows gathered, and the gradient of a loss that weighs every row otherwise on every rank."""
    part = whole_rows(n)[ranks.share(n)].clone().requires_grad_()
    whole = ranks.gather(part, n)
    loss_of(whole, ranks.rank).backward()
    return whole.detach(), part.grad


def whole_rows(n):
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def loss_of(whole, rank):
    return ((rank + 1) * torch.arange(1, len(whole) + 1)[:, None] * whole.sin()).sum() + whole.prod(dim=1).sum()


@pytest.mark.parametrize("n", [2, 5, 8, 1])
@pytest.mark.parametrize("size", SIZES)
def test_gathered_parts_are_the_whole_and_get_the_gradients_of_all_ranks(processes, size, n):
    """Parts may be of unequal lengths, and of none."""
    answers = processes.run(size, gathered, n)
    whole = whole_rows(n).requires_grad_()
    sum(loss_of(whole, rank) for rank in range(size)).backward()
    for found, _ in answers:
        assert torch.equal(found, whole.detach())
    torch.testing.assert_close(torch.cat([grad for _, grad in answers]), whole.grad, rtol=1e-14, atol=0)


def both_gathered(ranks):
    """Two gathered parts whose sum hands one and the same gradient to both."""
    parts = [(k * whole_rows(5)[ranks.share(5)]).requires_grad_() for k in (1, 2)]
    (ranks.gather(parts[0], 5) + ranks.gather(parts[1], 5)).square().sum().backward()
    return [part.grad for part in parts]


def test_adding_a_gradient_up_does_not_change_it_for_others(processes):
    grads = zip(*processes.run(2, both_gathered), strict=True)
    for grad in map(torch.cat, grads):
        torch.testing.assert_close(grad, 2 * 2 * 3 * whole_rows(5))


def added_up(ranks):
    one = 10.0**ranks.rank
    tensors = [
        torch.tensor(one),
        torch.full((2, 3), one, dtype=torch.float64),
        torch.full((3, 2), one).T,  # not contiguous
        torch.zeros(0),
        torch.full((4,), 10**ranks.rank),
    ]
    ranks.add_up(iter(tensors))
    return tensors


@pytest.mark.parametrize("size", SIZES)
def test_tensors_of_any_shape_and_dtype_add_up_in_place(processes, size):
    total = float("1" * size)
    for number, matrix, turned, nothing, whole in processes.run(size, added_up):
        assert number == total
        assert torch.equal(matrix, torch.full((2, 3), total, dtype=torch.float64))
        assert torch.equal(turned, torch.full((2, 3), total))
        assert len(nothing) == 0
        assert torch.equal(whole, torch.full((4,), int(total)))


def told(ranks, folder):
    """What a rank hears from the first, and whether it sees what all did before they waited for each other."""
    heard = [ranks.same_everywhere(value) for value in (ranks.rank, {"rank": [ranks.rank]}, None, ranks.writes)]
    (folder / str(ranks.rank)).touch()
    ranks.wait()
    return heard, sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", SIZES)
def test_all_hear_what_the_first_says_and_wait_for_each_other(processes, tmp_path, size):
    expected = [0, {"rank": [0]}, None, True], [str(rank) for rank in range(size)]
    assert processes.run(size, told, tmp_path) == [expected] * size


# ---- the gradient of a batch that is shared out


@dataclass(frozen=True)
class Exact(Clip):
    """A CLIP in float64: there, different orders of summing can be told from mistakes."""

    def normalised(self, pixels):
        return super().normalised(pixels).double()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A CLIP so small that a run takes a quarter of a second."""
    folder = tmp_path_factory.mktemp("base")
    settings = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**settings).state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def gradient(ranks, base, case):
    """Loss and gradients of a batch, of which this rank has its share."""
    mode, n, templates = case["mode"], case["n"], case.get("templates", 1)
    clip = open_model(base)
    clip = Exact(**vars(clip) | {"network": clip.network.double().train()})
    clip.network.logit_scale.data.fill_(1.3)
    if case.get("fixed"):
        clip.network.visual.requires_grad_(False)
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, n)
    captions = clip.tokens([f"a picture of {label}, " + "long " * label for label in labels]).numpy()
    prompts = clip.tokens([f"{kind} {label}" for label in range(3) for kind in ("a", "the tall")[:templates]]).numpy()
    pixels = rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    pairs = Pairs(mode, pixels, captions, prompts, labels, np.array(["train"] * n), templates)
    rows = np.arange(n)
    loss = accumulate_gradient(
        clip, pairs.batch(rows[ranks.share(n)]), n=n, chunk_size=case.get("chunk_size", 0), seed=3, ranks=ranks,
        classes=pairs.classes_of(rows) if case.get("multi") else None, augment=case.get("augment", False),
    )  # fmt: skip
    return loss, {name: p.grad for name, p in clip.network.named_parameters()}


@pytest.mark.parametrize(
    ("size", "case"),
    [
        (2, {"mode": "captions", "n": 13}),
        (4, {"mode": "captions", "n": 7, "multi": True}),
        (4, {"mode": "labels", "n": 13, "templates": 2}),
        (2, {"mode": "labels", "n": 9, "multi": True, "chunk_size": 2}),
        (4, {"mode": "captions", "n": 13, "chunk_size": 2, "augment": True}),
        (4, {"mode": "captions", "n": 4, "fixed": True}),
    ],
    ids=str,
)
def test_a_batch_that_is_shared_out_has_the_gradient_of_the_whole(processes, base, case, size):
    loss, expected = gradient(Ranks(), base, case)
    assert float(expected["logit_scale"].abs()) > 1e-3
    for its_loss, found in processes.run(size, gradient, base, case):
        assert float(its_loss - loss) == pytest.approx(0, abs=1e-12)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if value is None:
                assert found[name] is None
            else:
                torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


# ---- runs


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return finish(sampling.draw_sample(SAMPLE, Workspace(tmp_path_factory.mktemp("sample"))))


def fresh(sample, tmp_path, name="fresh"):
    """A workspace of its own that holds the same sample, decoded already where it once was."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "cache").symlink_to(sample.folder.parent.parent / "cache")
    workspace = Workspace(tmp_path / name)
    workspace.folder("samples", sample.id).symlink_to(sample.folder)
    return workspace


def trained(config, sample_id, root, reports=None):
    """Trains, to the end or until so many reports have come, of which every step makes one."""
    workspace, seen = Workspace(root), 0
    before, loop.REPORT_STEPS = loop.REPORT_STEPS, 1
    try:
        activity = train(config, load_sample(workspace, sample_id), workspace)
        for progress in activity:
            seen += ", loss " in progress.note
            if seen == reports:
                break
        activity.close()
    finally:
        loop.REPORT_STEPS = before


def rank_trained(ranks, config, sample_id, root, reports=None):
    """The same on a rank; the paths below `runs` that it wrote, renamed or removed."""
    _written.clear()
    if not _written.watches:
        sys.addaudithook(_written.note)  # which stays as long as the process
        _written.watches = True
    trained(config, sample_id, root, reports)
    return [path for path in _written if path.startswith(f"{root / 'runs'}/")]


class _Written(list):
    watches = False

    def note(self, event, arguments):
        if event in ("os.rename", "os.remove", "os.mkdir", "os.truncate") or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            self.append(str(arguments[0]))


_written = _Written()


def losses_of(run):
    return {s.step: s.training_loss for s in run.steps() if s.training_loss is not None}


def checked(run, steps=20):
    """A run that has finished, with every step and every epoch measured once."""
    assert run.result.state == "finished"
    assert run.result.steps == steps
    assert not run.checkpoint.exists()
    assert [s.step for s in run.steps() if s.training_loss is not None] == list(range(1, steps + 1))
    epochs = [s.step for s in run.steps() if s.validation_loss is not None]
    assert epochs == list(range(0, steps + 1, steps // run.config.epochs))
    return run


@pytest.fixture(scope="module")
def alone(sample, base, tmp_path_factory):
    """One process's run for a kind of settings."""
    workspace = fresh(sample, tmp_path_factory.mktemp("alone"))

    def run(**kind):
        config = RunConfig(base=base, **TWENTY_STEPS | kind)
        trained(config, sample.id, workspace.root)
        return checked(load_run(workspace, run_id(config, sample)))

    return run


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (2, {"averaging": 0.9}),
        (4, {"mode": "labels", "template": "A {label}|An image of {label}", "interpolation": True}),
        (2, {"loss": "multi-positive", "chunk_size": 4}),
        (2, {"augmentation": "light"}),
        (2, {"tune": "lora"}),
    ],
    ids=str,
)
def test_several_processes_learn_what_one_learns_and_only_the_first_writes(
    processes, sample, base, alone, tmp_path, size, kind
):
    config, workspace = RunConfig(base=base, **TWENTY_STEPS | kind), fresh(sample, tmp_path)
    written = processes.run(size, rank_trained, config, sample.id, workspace.root)
    run, expected = checked(load_run(workspace, run_id(config, sample))), alone(**kind)
    assert losses_of(run) == pytest.approx(losses_of(expected), abs=1e-5)
    assert [s.validation_loss for s in run.steps()] == pytest.approx(
        [s.validation_loss for s in expected.steps()], abs=1e-5
    )
    assert written[0]
    assert written[1:] == [[]] * (size - 1)
    log = (run.folder / "log.txt").read_text()
    assert log.count(f"; {size} processes") == log.count("image tower: ") == 1
    weights, others = load_file(run.weights), load_file(expected.weights)
    for name, value in others.items():
        if not name.endswith("attn.in_proj_bias"):  # the keys' have no gradient but rounding: AdamW magnifies it
            # a single weight whose gradient is nearly nothing may move either way: AdamW divides by its size
            assert (weights[name] - value).norm() <= 1e-3 * value.norm() + 1e-6, name


@pytest.mark.parametrize(("before", "after", "reports"), [(1, 2, 6), (2, 1, 6), (2, 1, 8), (4, 2, 6), (1, 4, 8)])
def test_a_run_goes_on_with_another_number_of_processes(
    processes, sample, base, alone, tmp_path, before, after, reports
):
    """Stopped in the middle of an epoch, where there is a checkpoint, and at its end, where the older one counts."""
    kind = {"mode": "labels", "averaging": 0.9}
    config, workspace = RunConfig(base=base, **TWENTY_STEPS | kind), fresh(sample, tmp_path)
    for size, stop_after in ((before, reports), (after, None)):
        if size == 1:
            trained(config, sample.id, workspace.root, stop_after)
        else:
            processes.run(size, rank_trained, config, sample.id, workspace.root, stop_after)
    run = checked(load_run(workspace, run_id(config, sample)))
    log = (run.folder / "log.txt").read_text()
    assert log.count(f"goes on from step {6 if reports == 6 else 4} of 20") == 1
    assert losses_of(run) == pytest.approx(losses_of(alone(**kind)), abs=1e-4)


def test_a_finished_run_is_found_by_all(processes, sample, base, tmp_path):
    config, workspace = RunConfig(base=base, **TWENTY_STEPS | {"epochs": 1}), fresh(sample, tmp_path)
    assert processes.run(2, rank_trained, config, sample.id, workspace.root)[0]
    written = processes.run(4, rank_trained, config, sample.id, workspace.root)
    assert written[1:] == [[]] * 3
    assert {os.path.basename(path) for path in written[0]} <= {"checkpoint.safetensors"}  # looked for, not there


def refused(ranks, error, *arguments):
    with pytest.raises(error) as raised:
        trained(*arguments)
    return str(raised.value)


def test_more_processes_than_pairs_are_refused_with_the_way_out(processes, sample, base, tmp_path):
    config, workspace = RunConfig(base=base, mode="captions", batch_size=3), fresh(sample, tmp_path)
    for says in processes.run(4, refused, BadSettings, config, sample.id, workspace.root):
        assert says == (
            "4 processes are too many for 3 pairs a batch and 12 validation pictures, of which each needs its share: "
            "start fewer"
        )


def without_memory(ranks, *arguments):
    def accumulate(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    before, loop.accumulate_gradient = loop.accumulate_gradient, accumulate
    try:
        return refused(ranks, TrainingError, *arguments)
    finally:
        loop.accumulate_gradient = before


def test_where_memory_runs_out_in_several_processes_the_way_out_is_said(processes, sample, base, tmp_path):
    config, workspace = RunConfig(base=base, **TWENTY_STEPS), fresh(sample, tmp_path)
    for says in processes.run(2, without_memory, config, sample.id, workspace.root):
        assert says == (
            "memory ran out on cpu with 11 pairs at a time: choose a smaller chunk_size, or turn checkpointing on"
        )


# ---- the command line


def torchrun(size, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", str(size), "-m", "clipdemo", "train", *arguments]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": LOOPBACK, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_torchrun_trains_one_run_with_two_processes(sample, base, alone, tmp_path):
    workspace = fresh(sample, tmp_path)
    options = [("--" + name.replace("_", "-"), str(value)) for name, value in TWENTY_STEPS.items()]
    at = ["--sample", sample.id, "--workspace", str(workspace.root), "--base", base]
    done = torchrun(2, *at, *sum(options, ()))
    assert done.returncode == 0, done.stderr
    assert workspace.names("runs") == done.stdout.split()
    run, expected = load_run(workspace, done.stdout.strip()), losses_of(alone())
    assert run.result.state == "finished"
    means = {step: np.mean([expected[s] for s in range(step - 3, step + 1)]) for step in range(4, 21, 4)}
    assert losses_of(run) == pytest.approx(means, abs=1e-5)
    assert (run.folder / "log.txt").read_text().count("; 2 processes") == 1
    assert len(workspace.names("jobs")) == 1
    assert not run.checkpoint.exists()
