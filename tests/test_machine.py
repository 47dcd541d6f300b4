import json

import pytest
import torch

from clipdemo import machine
from clipdemo.machine import FLOAT32_ERROR, choose_float32_kernel, pick_device, pick_precision, product_error

NAMES = {"highest": "PyTorch's default kernel", "medium": "oneDNN"}
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _setting_is_put_back():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, which does not exist yet."""
    monkeypatch.setattr(machine, "user_cache_path", lambda *args, **settings: tmp_path / "cache" / "clipdemo")
    return tmp_path / "cache" / "clipdemo"


@pytest.fixture
def measured(monkeypatch):
    """A list of what the next measurements find. Fails where there is one too many."""
    found = []
    monkeypatch.setattr(machine, "_measured", lambda: {"kernel": found.pop(0), "ratio": 1.0})
    return found


# ---- what a product computes


def test_the_default_products_are_float32():
    assert 0 < product_error("highest") < FLOAT32_ERROR


def test_the_limit_tells_float32_from_bfloat16_and_tensor_float():
    """By casting: bfloat16 keeps 8 bits of a number, TensorFloat 11, float32 24."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 768, generator=generator) for _ in range(2))
    exact = a.double() @ b.double().T

    def error(rounded):
        return float((rounded(a).double() @ rounded(b).double().T - exact).abs().max())

    bfloat16 = error(lambda x: x.bfloat16())
    tensor_float = error(lambda x: ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32))
    assert bfloat16 > 100 * FLOAT32_ERROR
    assert tensor_float > 10 * FLOAT32_ERROR


@pytest.mark.parametrize("before", ["highest", "medium"])
def test_looking_leaves_the_setting_as_it_was(before):
    torch.set_float32_matmul_precision(before)
    product_error("highest")
    product_error("medium")
    assert torch.get_float32_matmul_precision() == before


def test_products_that_are_coarser_than_float32_are_never_taken(cache, monkeypatch):
    monkeypatch.setattr(machine, "product_error", lambda kernel: 2 * FLOAT32_ERROR)
    monkeypatch.setattr(machine, "_seconds", lambda kernel: pytest.fail("their speed does not matter"))
    assert choose_float32_kernel() == NAMES["highest"]


@pytest.mark.parametrize(("fast", "kernel"), [(0.5, "medium"), (0.95, "highest"), (2.0, "highest")])
def test_exact_products_are_taken_where_they_are_clearly_faster(cache, monkeypatch, fast, kernel):
    monkeypatch.setattr(machine, "product_error", lambda kernel: 1e-5)
    monkeypatch.setattr(machine, "_seconds", {"highest": 1.0, "medium": fast}.get)
    assert choose_float32_kernel() == NAMES[kernel]
    assert torch.get_float32_matmul_precision() == kernel


# ---- one choice a machine


def test_the_choice_on_this_machine_is_float32_and_stays(cache):
    first = choose_float32_kernel()
    kernel = torch.get_float32_matmul_precision()
    assert first == NAMES[kernel]
    assert product_error(kernel) < FLOAT32_ERROR
    (path,) = cache.iterdir()
    content = path.read_bytes()
    assert json.loads(content)["kernel"] == kernel
    torch.set_float32_matmul_precision("highest")
    assert choose_float32_kernel() == first
    assert torch.get_float32_matmul_precision() == kernel
    assert path.read_bytes() == content and list(cache.iterdir()) == [path]


@pytest.mark.parametrize("kernel", ["highest", "medium"])
def test_it_is_measured_once(cache, measured, kernel):
    measured.append(kernel)
    assert [choose_float32_kernel() for _ in range(3)] == [NAMES[kernel]] * 3
    assert torch.get_float32_matmul_precision() == kernel


def test_another_number_of_threads_is_another_choice(cache, measured, monkeypatch):
    measured += ["highest", "medium"]
    choose_float32_kernel()
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads + 1)
        assert choose_float32_kernel() == NAMES["medium"]
    assert choose_float32_kernel() == NAMES["highest"]
    assert len(list(cache.iterdir())) == 2


def test_another_process_that_was_first_decides(cache, measured, monkeypatch):
    measured.append("highest")
    choose_float32_kernel()
    (path,) = cache.iterdir()
    content = path.read_bytes()
    path.unlink()

    def slow():
        path.write_bytes(content)
        return {"kernel": "medium", "ratio": 2.0}

    monkeypatch.setattr(machine, "_measured", slow)
    assert choose_float32_kernel() == NAMES["highest"]
    assert path.read_bytes() == content


DAMAGED = [b"", b'{"kernel": "hi', b"[]", b"null", b'{"kernel": "fast"}', b'{"kernel": ["medium"]}', b"\xff\xfe\x00"]


@pytest.mark.parametrize("content", DAMAGED, ids=repr)
def test_a_damaged_file_is_measured_again(cache, measured, content):
    measured += ["highest", "medium"]
    choose_float32_kernel()
    (path,) = cache.iterdir()
    path.write_bytes(content)
    assert choose_float32_kernel() == NAMES["medium"]


def test_a_damaged_file_is_replaced(cache, measured):
    measured += ["highest", "medium"]
    choose_float32_kernel()
    (path,) = cache.iterdir()
    path.write_bytes(b'{"kernel": "hi')
    assert [choose_float32_kernel() for _ in range(3)] == [NAMES["medium"]] * 3


def test_a_folder_that_cannot_be_made_means_the_default(tmp_path, measured, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(machine, "user_cache_path", lambda *args, **settings: tmp_path / "file" / "clipdemo")
    measured += ["medium", "medium"]
    assert [choose_float32_kernel() for _ in range(2)] == [NAMES["highest"]] * 2
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_folder_that_cannot_be_written_means_the_default(cache, measured, monkeypatch):
    def refused(self, *args, **settings):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(machine.Path, "mkdir", refused)
    measured.append("medium")
    assert choose_float32_kernel() == NAMES["highest"]


def test_a_file_in_the_folders_place_means_the_default(cache, measured):
    cache.parent.mkdir()
    cache.touch()
    measured.append("medium")
    assert choose_float32_kernel() == NAMES["highest"]


# ---- device and precision


@pytest.fixture
def hardware(monkeypatch):
    """Pretends that this machine has so many GPUs of NVIDIA's, or one of Apple's."""
    monkeypatch.delenv("CLIPDEMO_DEVICE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    def pretend(gpus=0, apple=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)

    return pretend


def test_a_gpu_is_taken_where_there_is_one(hardware):
    for pretended, device in (({}, "cpu"), ({"apple": True}, "mps"), ({"gpus": 2, "apple": True}, "cuda:0")):
        hardware(**pretended)
        assert pick_device() == torch.device(device)


@pytest.mark.parametrize(("rank", "device"), [("0", "cuda:0"), ("1", "cuda:1"), ("5", "cuda:1")])
def test_each_process_of_torchrun_has_a_gpu_of_its_own(hardware, monkeypatch, rank, device):
    hardware(gpus=2)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert pick_device() == torch.device(device)


@pytest.mark.parametrize("name", ["cpu", "cuda:1", "mps"])
def test_the_user_has_the_last_word(hardware, monkeypatch, name):
    hardware(gpus=4)
    monkeypatch.setenv("CLIPDEMO_DEVICE", name)
    assert pick_device() == torch.device(name)
    monkeypatch.setenv("CLIPDEMO_DEVICE", "")
    assert pick_device() == torch.device("cuda:0")


@pytest.mark.parametrize("asked", ["float32", "bf16"])
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_a_precision_that_is_asked_for_is_taken(asked, device):
    assert pick_precision(asked, device) == asked


@pytest.mark.parametrize(("multiplies", "precision"), [(True, "bf16"), (False, "float32")])
def test_auto_is_bf16_only_where_a_gpu_multiplies_it(monkeypatch, multiplies, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: multiplies)
    assert pick_precision("auto", CUDA) == precision
    assert pick_precision("auto", CPU) == pick_precision("auto", torch.device("mps")) == "float32"


# ---- memory


def test_available_memory_is_some_of_the_machines():
    assert 0 < machine.available_bytes(CPU) <= machine.psutil.virtual_memory().total


def test_only_glibc_is_told_to_keep_what_is_freed(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "win32")
    assert machine.keep_freed_memory() == "memory as the system likes it"
    monkeypatch.setattr(machine.sys, "platform", "linux")

    def other_library(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(machine.ctypes, "CDLL", other_library)
    assert machine.keep_freed_memory() == "memory as the system likes it"


def test_the_log_says_what_was_chosen(cache, measured):
    measured.append("medium")
    line = machine.prepare_cpu.__wrapped__()
    assert line in (
        "float32 products by oneDNN; freed memory is kept",
        "float32 products by oneDNN; memory as the system likes it",
    )
