"""Exports a model and a Space, and tries both in fresh environments that have never heard of clipdemo.

    python -m tools.check_export                  # downloads torch and Gradio into two environments: 12 GB, 10 minutes
    python -m tools.check_export --at /tmp/check  # keeps all in that folder, and uses environments that lie there

One environment has open_clip alone: the exported folder has to give the same embeddings of 50 pictures and of the
class sentences, bit for bit. The other has the Space's own requirements.txt: its app is started and asked. Both run
offline: any connection to another machine is refused and counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PICTURES = 50

# Runs before anything else in the other process. Says on stderr whom it asked for, and lets it have 127.0.0.1 only.
OFFLINE = """
import os, socket, sys
_here = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "", None, os.environ.get("HOSTNAME"), socket.gethostname()}
def _refuse(host):
    if (host.decode() if isinstance(host, bytes) else host) not in _here:
        print("ASKED FOR", host, file=sys.stderr, flush=True)
        raise OSError("offline: " + str(host))
_connect, _connect_ex, _resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
def _checked(then):
    def connect(self, address):
        if isinstance(address, tuple):
            _refuse(address[0])
        return then(self, address)
    return connect
socket.socket.connect, socket.socket.connect_ex = _checked(_connect), _checked(_connect_ex)
def _getaddrinfo(host, *rest, **named):
    _refuse(host)
    return _resolve(host, *rest, **named)
socket.getaddrinfo = _getaddrinfo
"""

# argv: a name that open_clip opens, a folder of pictures, a JSON list of texts, the .npz to write
EMBED = """
import json, sys
from pathlib import Path
import numpy, open_clip, torch
from PIL import Image
name, pictures, texts, out = sys.argv[1:]
network, _, transform = open_clip.create_model_and_transforms(name)
network.eval()
tokenizer = open_clip.get_tokenizer(name)
images = torch.stack([transform(Image.open(path)) for path in sorted(Path(pictures).iterdir())])
with torch.inference_mode():
    found = {
        "images": network.encode_image(images, normalize=True).numpy(),
        "texts": network.encode_text(tokenizer(json.loads(texts)), normalize=True).numpy(),
        "logit_scale": network.logit_scale.numpy(),
    }
numpy.savez(out, **found)
assert "clipdemo" not in sys.modules
"""

# argv: workspace, run, pictures, texts, .npz: the same by clipdemo's own decoding, as it was before the export
REFERENCE = """
import json, sys
from pathlib import Path
import numpy, torch
from clipdemo.images import decode, fit_square
from clipdemo.models import open_model
from clipdemo.training.runs import load_run
from clipdemo.workspace import Workspace
workspace, name, pictures, texts, out = sys.argv[1:]
run = load_run(Workspace(workspace), name)
clip = open_model(run.config.base, run.weights)
files = sorted(Path(pictures).iterdir())
pixels = numpy.stack([fit_square(decode(path.read_bytes()), clip.image_size) for path in files])
with torch.inference_mode():
    found = {
        "images": clip.network.encode_image(clip.normalised(pixels), normalize=True).numpy(),
        "texts": clip.network.encode_text(clip.tokens(json.loads(texts)), normalize=True).numpy(),
        "logit_scale": clip.network.logit_scale.detach().numpy(),
    }
numpy.savez(out, **found)
"""


def _environment(**more: str) -> dict[str, str]:
    """One thread, as sums of several may round otherwise, on the CPU, and Python without a path of its caller's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN", "VIRTUAL_ENV")}
    return kept | {"OMP_NUM_THREADS": "1", "CLIPDEMO_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "", **more}


def run_script(python: str, script: str, arguments: Sequence[str], cwd: Path, **environment: str) -> str:
    """What the script says on stderr. Raises `RuntimeError` with it where it fails."""
    command = [python, "-c", script, *arguments]
    ended = subprocess.run(command, cwd=cwd, env=_environment(**environment), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-4000:])
    return ended.stderr


def embeddings(
    python: str, name: str, pictures: Path, texts: Sequence[str], out: Path, before: str = OFFLINE, **environment: str
) -> dict[str, np.ndarray]:
    """What open_clip in that Python makes of pictures and texts; the model by its name. No clipdemo is in its path."""
    arguments = [name, str(pictures), json.dumps(list(texts)), str(out)]
    said = run_script(python, before + EMBED, arguments, out.parent, **environment)
    if "ASKED FOR" in said:
        raise RuntimeError(said)
    return dict(np.load(out))


def reference(workspace: Path, run: str, pictures: Path, texts: Sequence[str], out: Path) -> dict[str, np.ndarray]:
    """The same of a run that lies in the workspace."""
    run_script(sys.executable, REFERENCE, [str(workspace), run, str(pictures), json.dumps(list(texts)), str(out)], ROOT)
    return dict(np.load(out))


@contextmanager
def started(python: str, space: Path, log: Path, before: str = OFFLINE) -> Iterator[str]:
    """The address of a Space's app on 127.0.0.1; it is stopped, by its process, when the block ends.

    Raises `RuntimeError` with its log where it does not start.
    """
    script = before + "import runpy; runpy.run_path('app.py', run_name='__main__')"
    settings = _environment(HF_HUB_OFFLINE="1", PYTHONUNBUFFERED="1", GRADIO_TEMP_DIR=str(log.parent / "gradio"))
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, "-c", script], cwd=space, env=settings, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            for line in process.stdout:
                if "http://127.0.0.1:" in line:
                    yield line.split()[-1]
                    return
            raise RuntimeError(log.read_text()[-4000:])
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def _fresh(folder: Path, requirements: Sequence[str]) -> str:
    """The Python of an environment with these requirements and what they require, made where it is missing."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True, cwd=folder)
    return str(python)


_ASK = """
import json, sys
from gradio_client import Client, handle_file
url, picture = sys.argv[1:]
print(json.dumps(Client(url, verbose=False).predict(handle_file(picture), "", api_name="/classify")))
"""


def _check(at: Path) -> None:
    """Prints what was seen. Raises `RuntimeError` or `AssertionError` where a promise is not kept."""
    place = at / "workspace"
    program = [sys.executable, "-m", "clipdemo"]
    experiment = ["experiment", "--samples", "600", "--epochs", "1", "--workspace", str(place)]
    subprocess.run([*program, *experiment], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = next(path.name for path in (place / "runs").iterdir() if path.name.startswith("labels"))
    for kind in ("model", "space"):
        export = ["export", run, "--as", kind, "--to", str(at / kind), "--workspace", str(place)]
        subprocess.run([*program, *export], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    sample = next((place / "samples").iterdir())
    pictures = at / "pictures"
    pictures.mkdir(exist_ok=True)
    for path in sorted((sample / "images").iterdir())[-PICTURES:]:  # of the test split
        (pictures / path.name).write_bytes(path.read_bytes())
    labels = json.loads((at / "space" / "labels.json").read_text())
    texts = [sentence for sentences in labels["labels"].values() for sentence in sentences]

    python = _fresh(at / "only-open-clip", ["open_clip_torch"])
    before = reference(place, run, pictures, texts, at / "before.npz")
    after = embeddings(python, f"local-dir:{at / 'model'}", pictures, texts, at / "after.npz", HF_HUB_OFFLINE="1")
    for name, values in before.items():
        equal = values.tobytes() == after[name].tobytes()
        print(f"{name} {values.shape}: {'the same bits' if equal else 'DIFFERENT'}")
        assert equal, f"{name} differ by {np.abs(values - after[name]).max()}"

    python = _fresh(at / "of-the-space", ["-r", str(at / "space" / "requirements.txt")])
    log = at / "space.log"
    with started(python, at / "space", log) as url:
        picture = sorted((at / "space" / "examples").iterdir())[0]
        asked = subprocess.run(
            [python, "-c", _ASK, url, str(picture)], cwd=at, check=True, capture_output=True, text=True
        )
    answer = json.loads(asked.stdout.splitlines()[-1])
    best = answer["confidences"][0]
    print(f"the Space says {answer['label']} ({best['confidence']:.3f}) of {picture.name}")
    assert "ASKED FOR" not in log.read_text(), log.read_text()


def main() -> None:
    """Makes the environments in a folder that is kept, or in one that is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", type=Path)
    at = parser.parse_args().at
    if at:
        at.mkdir(parents=True, exist_ok=True)
        _check(at.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            _check(Path(folder).resolve())


if __name__ == "__main__":
    main()
