import json
import logging
import os
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from clipdemo.cli import app
from clipdemo.comparison import compare
from clipdemo.errors import BadSettings, ComparisonError, ModelError, WorkspaceError
from clipdemo.export import export_model, export_space, push
from clipdemo.export.card import fenced, words
from clipdemo.export.folder import SIGN
from clipdemo.export.model import WEIGHTS
from clipdemo.models import BUILT_IN_FOLDER
from clipdemo.progress import finish
from clipdemo.records import RunConfig
from clipdemo.workspace import Workspace, read_json, write_json
from tests.hub_push_standin import PushStandIn
from tests.hub_standin import point_at
from tests.isolation import brought_by, only
from tests.workspace_factory import make_evaluation, make_real_run, make_run, make_sample
from tools.check_export import OFFLINE, embeddings, reference, run_script

TOKEN = "hf_ofATestAndOfNobodyElse"
TEXTS = ["A medical image of brain", "A medical image of “chest”, 胸部", ""]
ALONE = OFFLINE + only(["open_clip_torch"])

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b | c",
    "![x](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "# heading\n## another\n\n```",
    "www.evil.example and http://evil.example",
    "*bold* _under_ `code` ~~gone~~ $x$",
    "\\",
    "&lt;b&gt; &amp;",
    "\u202egnirts",
    "--- \n---",
    "a@evil.example",
)


class World:
    """A workspace with a sample, a run whose weights open, and a comparison that measured it."""

    def __init__(self, root, **sample):
        self.place = Workspace(root / "workspace")
        self.sample = make_sample(self.place, **sample)
        self.run = make_real_run(self.place, self.sample, RunConfig(mode="labels"))
        both = [
            make_evaluation(self.place, self.sample, name, run) for name, run in (("base", None), ("labels", self.run))
        ]
        self.comparison = compare(both, self.place)

    def export(self, folder, **settings):
        return finish(export_model(self.run, self.place, folder, **settings))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    return world.export(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def before(world, tmp_path_factory):
    """What the run's weights make of 50 pictures and some texts in the workspace."""
    place = tmp_path_factory.mktemp("before")
    (place / "pictures").mkdir()
    for path in sorted((world.sample.folder / "images").iterdir())[:50]:
        (place / "pictures" / path.name).write_bytes(path.read_bytes())
    return reference(
        world.place.root, world.run.id, place / "pictures", TEXTS, place / "before.npz"
    ), place / "pictures"


def same_bits(one, other):
    assert one.keys() == other.keys()
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_open_clip_alone_and_offline_gives_the_same_embeddings_of_50_pictures_bit_for_bit(before, folder, tmp_path):
    expected, pictures = before
    found = embeddings(sys.executable, f"local-dir:{folder}", pictures, TEXTS, tmp_path / "a.npz", ALONE)
    assert len(expected["images"]) == 50
    assert same_bits(expected, found)


def test_the_base_gives_other_embeddings(before, tmp_path):
    expected, pictures = before
    found = embeddings(sys.executable, f"local-dir:{BUILT_IN_FOLDER}", pictures, TEXTS, tmp_path / "b.npz", ALONE)
    assert not same_bits(expected, found)


def test_the_isolation_hides_what_open_clip_does_not_bring(tmp_path):
    run_script(sys.executable, ALONE + "import open_clip", [], tmp_path)
    for module in ("clipdemo", "streamlit", "gradio", "pandas"):
        with pytest.raises(RuntimeError, match="ModuleNotFoundError"):
            run_script(sys.executable, ALONE + f"import {module}", [], tmp_path)
    with pytest.raises(RuntimeError, match="ASKED FOR"):
        run_script(sys.executable, ALONE + "import urllib.request as u; u.urlopen('http://10.1.2.3')", [], tmp_path)
    assert {"torch", "numpy"} < brought_by(["open_clip_torch"])


def test_low_rank_changes_are_part_of_the_exported_weights(tmp_path):
    from clipdemo.training.loop import train

    place = Workspace(tmp_path / "workspace")
    sample = make_sample(place)
    run = finish(train(RunConfig(mode="labels", tune="lora", epochs=1, batch_size=12), sample, place))
    folder = finish(export_model(run, place, tmp_path / "model"))
    names, base = (set(load_file(path)) for path in (folder / WEIGHTS, BUILT_IN_FOLDER / WEIGHTS))
    assert names == base
    assert (folder / WEIGHTS).read_bytes() == run.weights.read_bytes()


@pytest.mark.parametrize("kind", ["local-dir", "file"])
def test_any_base_of_open_clip_is_exported_with_its_own_configuration(tmp_path, kind):
    import open_clip

    config = open_clip.get_model_config(f"local-dir:{BUILT_IN_FOLDER}")
    config["vision_cfg"] |= {"layers": 1, "image_size": 48}
    if kind == "local-dir":
        (tmp_path / "somewhere").mkdir()
        seen = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}
        write_json(tmp_path / "somewhere" / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": seen})
        base, path = f"local-dir:{tmp_path / 'somewhere'}", tmp_path / "somewhere" / WEIGHTS
    else:
        write_json(tmp_path / "tiny-of-a-test.json", config)
        open_clip.add_model_config(tmp_path / "tiny-of-a-test.json")
        path = tmp_path / "weights.safetensors"
        base = f"tiny-of-a-test:{path}"
    save_file(open_clip.model.CLIP(**config).state_dict(), path)
    place = Workspace(tmp_path / "workspace")
    run = make_real_run(place, make_sample(place), RunConfig(mode="labels", base=base))
    folder = finish(export_model(run, place, tmp_path / "model"))
    written = read_json(folder / "open_clip_config.json")
    assert written["model_cfg"]["vision_cfg"]["image_size"] == 48
    if kind == "local-dir":
        assert seen.items() <= written["preprocess_cfg"].items()
    card = (folder / "README.md").read_text()
    assert str(tmp_path) not in card
    assert "license: other" in card


# ---- the card


def test_the_card_holds_all_that_a_stranger_must_know(world, folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "open_clip"
    values = {result.metric_name.partition(" of ")[0]: result.metric_value for result in card.data.eval_results}
    evaluation = world.comparison.models[1]
    assert values["top-1"] == pytest.approx(evaluation.top1, abs=1e-4)
    text = card.text
    for expected in (
        "Not for diagnosis", "synthetic", "## Data", "## Cleaning", "label is empty | 30", "## Settings",
        "| learning rate | 0.0003 |", "75.0 % (46.8 to 91.1)", "p (Holm)", "## Limits", "Apache-2.0", world.sample.content_hash,
        f"python -m clipdemo train --mode labels --sample {world.sample.id} --seed 0 --epochs 4",
        "python -m clipdemo sample --source phantom --samples 60",
    ):  # fmt: skip
        assert expected in text.replace("\u00a0", " "), expected


def test_values_found_in_dropped_rows_and_captions_stay_at_home(folder):
    text = (folder / "README.md").read_text()
    assert "Replace this" not in text
    assert "Made-up caption" not in text


def test_without_a_comparison_the_card_says_that_nothing_was_measured(tmp_path):
    place = Workspace(tmp_path / "workspace")
    run = make_real_run(place, make_sample(place), RunConfig(mode="captions"))
    card = ModelCard.load(finish(export_model(run, place, tmp_path / "model")) / "README.md")
    assert "Not measured on test pictures" in card.text
    assert card.data.eval_results is None


def test_hostile_class_names_are_words_and_nothing_else(tmp_path):
    world = World(tmp_path, classes=HOSTILE, caption="<img src=x onerror=alert(1)> {}")
    report = world.sample.report.model_copy(update={"source_classes": dict.fromkeys(HOSTILE, 5)})
    meta = read_json(world.sample.folder / "sample.json")
    write_json(world.sample.folder / "sample.json", meta | {"report": report.model_dump(mode="json")})
    world.run.rename("<b>[x](http://evil.example)</b>")
    text = (world.export(tmp_path / "model") / "README.md").read_text()
    body = text.split("\n---\n", 1)[1]
    html = MarkdownIt("gfm-like", {"linkify": False}).render(body)
    for sign in ("<script", "<img", "<a ", "<b>", "<em>", "<s>", 'javascript:alert(1)"', "\u202e"):
        assert sign not in html, sign
    assert html.count("<h1>") == 1 and html.count("<h2>") == 7
    for raw in ("http://evil", "www.evil"):
        assert raw not in body
    heads, rows = html.count("<th>") + html.count("<th style"), html.count("<tr>")
    assert heads and rows
    splits = html[html.index("cleaned source") :].split("</table>")[0]
    cells = [row.count("<td") for row in splits.split("<tr>")[1:]]
    assert cells == [5] * len(HOSTILE)
    assert "a | b | c" in splits and "&lt;script&gt;alert(1)&lt;/script&gt;" in splits
    assert ModelCard.load(tmp_path / "model" / "README.md").data.model_name is not None


def test_no_line_ends_a_block_of_code():
    block = fenced(["a ``` b", "````"], "sh")
    assert MarkdownIt().render(block).count("<pre>") == 1
    assert MarkdownIt().render(block + "\n\nafter").endswith("<p>after</p>\n")


def test_words_are_one_line():
    assert "\n" not in words("a\nb\r\u2028c")


def test_paths_of_this_machine_stay_at_home(tmp_path):
    world = World(tmp_path)
    secret = "/home/somebody/Hospital of X's/pictures"
    meta = read_json(world.sample.folder / "sample.json")
    meta["config"] |= {"source": "folder", "options": {"path": secret, "label_level": 1}}
    meta |= {"synthetic": False, "origin": {"folder": secret}}
    write_json(world.sample.folder / "sample.json", meta)
    folder = world.export(tmp_path / "model")
    said = "".join(path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
    assert "somebody" not in said and str(tmp_path) not in said
    assert "--path pictures" in said
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.license_name) == ("other", "see-the-base-model-and-the-data")


# ---- the folder


def test_an_earlier_export_is_replaced_and_anything_else_is_left_alone(world, tmp_path):
    folder = world.export(tmp_path / "model")
    old = (folder / "README.md").read_text()
    (folder / "README.md").write_text("changed")
    assert (world.export(folder) / "README.md").read_text() == old
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(WorkspaceError, match="mine.txt"):
        world.export(folder)
    assert (folder / "mine.txt").read_text() == "keep"
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match="no export"):
        world.export(other)
    (other / "deep").rmdir()
    assert world.export(other) == other
    assert {path.name for path in tmp_path.iterdir()} == {"model", "other"}


def test_what_fails_leaves_nothing_and_keeps_the_earlier_export(tmp_path):
    world = World(tmp_path)
    folder = world.export(tmp_path / "out" / "model")
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    world.run.weights.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be opened"):
        world.export(folder)
    with pytest.raises(ModelError):
        world.export(tmp_path / "out" / "new")
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept


def test_a_model_that_would_not_be_the_same_is_not_exported(world, tmp_path, monkeypatch):
    import open_clip

    config = open_clip.get_model_config(f"local-dir:{BUILT_IN_FOLDER}")
    other = config | {"quick_gelu": False}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: other)
    with pytest.raises(ModelError, match="images and texts would not"):
        world.export(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_not_ended_is_not_exported(workspace, tmp_path):
    run = make_run(workspace, make_sample(workspace), RunConfig(mode="labels"), finished=False)
    with pytest.raises(ModelError, match="has not ended"):
        finish(export_model(run, workspace, tmp_path / "model"))


def test_numbers_of_other_weights_are_never_taken(tmp_path):
    world = World(tmp_path)
    world.run.weights.write_bytes(
        make_real_run(world.place, world.sample, RunConfig(mode="labels", seed=1)).weights.read_bytes()
    )
    with pytest.raises(ComparisonError, match="did not measure"):
        world.export(tmp_path / "model", comparison=world.comparison)
    assert "Not measured" in (world.export(tmp_path / "model") / "README.md").read_text()


# ---- the Hub


@pytest.fixture
def hub():
    with PushStandIn(TOKEN) as running:
        yield running


def environment(hub, home):
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def pushing(hub, monkeypatch, tmp_path):
    point_at(hub.url, monkeypatch, tmp_path / "home")
    return hub


def test_what_was_pushed_is_loaded_from_the_hub_with_the_same_bits(before, folder, pushing, tmp_path):
    assert push(folder, "owner/tuned", TOKEN) == f"{pushing.url}/owner/tuned"
    repository = pushing.repositories["model", "owner/tuned"]
    assert repository.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(repository.messages) == 1 and not repository.private
    expected, pictures = before
    settings = environment(pushing, tmp_path / "cache")
    found = embeddings(sys.executable, "hf-hub:owner/tuned", pictures, TEXTS, tmp_path / "c.npz", ALONE, **settings)
    assert same_bits(expected, found)


def test_only_the_exports_own_files_leave(world, pushing, tmp_path):
    folder = world.export(tmp_path / "model")
    (folder / ".env").write_text("secret")
    push(folder, "owner/tuned", TOKEN)
    assert ".env" not in pushing.repositories["model", "owner/tuned"].files
    (folder / SIGN).unlink()
    with pytest.raises(WorkspaceError, match="no export"):
        push(folder, "owner/tuned", TOKEN)


def test_the_token_goes_to_the_hub_alone_and_into_no_address_or_log(folder, pushing, caplog, monkeypatch):
    for name in ("huggingface_hub", "httpx2", "httpcore2"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, name)
    caplog.set_level(logging.DEBUG)
    push(folder, "owner/tuned", TOKEN)
    assert caplog.records
    assert TOKEN not in caplog.text
    assert not [request for request in pushing.requests if TOKEN in request.path]
    assert {request.authorized for request in pushing.requests if request.method == "POST"} == {True}
    uploads = [request.authorized for request in pushing.requests if request.method == "PUT"]
    assert uploads == [False]
    assert TOKEN not in json.dumps(dict(os.environ))


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_a_refusal_says_why_without_the_token(folder, monkeypatch, tmp_path, status):
    with PushStandIn(TOKEN, refuse=status) as hub:
        point_at(hub.url, monkeypatch, tmp_path)
        with pytest.raises(ModelError, match="was not pushed to 'owner/tuned'") as refused:
            push(folder, "owner/tuned", TOKEN)
    assert "no: Bearer (token)" in str(refused.value) and "\n" not in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__context__ is None


def test_a_wrong_token_makes_nothing(folder, pushing):
    with pytest.raises(ModelError, match="not pushed"):
        push(folder, "owner/tuned", "hf_another")
    assert pushing.repositories == {}


@pytest.mark.parametrize("token", ["", "  ", "hf_\nX-Evil: 1", "hf_ä"])
def test_what_can_be_no_token_is_refused_before_anything_is_asked(folder, pushing, token):
    with pytest.raises(BadSettings, match="no token"):
        push(folder, "owner/tuned", token)
    assert pushing.requests == []


def test_what_should_be_private_never_goes_to_a_public_repository(folder, pushing):
    push(folder, "owner/hidden", TOKEN, private=True)
    assert pushing.repositories["model", "owner/hidden"].private
    push(folder, "owner/hidden", TOKEN, private=True)
    push(folder, "owner/open", TOKEN)
    pushing.repositories["model", "owner/open"].files.clear()
    with pytest.raises(ModelError, match="public"):
        push(folder, "owner/open", TOKEN, private=True)
    assert pushing.repositories["model", "owner/open"].files == {}


def test_a_tokenizer_of_its_own_is_looked_for_beside_the_pushed_model(world, pushing, tmp_path):
    folder = world.export(tmp_path / "model")
    config = read_json(folder / "open_clip_config.json")
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "somebody/else"
    write_json(folder / "open_clip_config.json", config)
    push(folder, "owner/tuned", TOKEN)
    pushed = json.loads(pushing.repositories["model", "owner/tuned"].files["open_clip_config.json"])
    assert pushed["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "owner/tuned"
    assert read_json(folder / "open_clip_config.json") == config


def test_a_space_is_pushed_as_a_space(world, pushing, tmp_path):
    folder = finish(export_space(world.run, world.place, tmp_path / "space"))
    assert push(folder, "owner/shown", TOKEN) == f"{pushing.url}/spaces/owner/shown"
    repository = pushing.repositories["space", "owner/shown"]
    assert repository.sdk == "gradio"
    assert {"app.py", "model/open_clip_model.safetensors", "examples/1.png"} < set(repository.files)


# ---- the command


def test_the_command_pushes_and_the_token_is_in_no_file_and_no_line(world, hub, tmp_path):
    (tmp_path / "temp").mkdir()
    settings = os.environ | environment(hub, tmp_path / "home") | {
        "HF_TOKEN": TOKEN, "HF_DEBUG": "1", "TMPDIR": str(tmp_path / "temp"), "HOME": str(tmp_path / "user"),
        "XDG_CACHE_HOME": str(tmp_path / "user" / "cache"),
    }  # fmt: skip
    command = [sys.executable, "-m", "clipdemo", "export", world.run.id, "--to", str(tmp_path / "model")]
    command += ["--push", "owner/tuned", "--private", "--workspace", str(world.place.root)]
    ended = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{hub.url}/owner/tuned"]
    assert hub.repositories["model", "owner/tuned"].private
    assert TOKEN not in ended.stdout + ended.stderr
    files = [path for root in (tmp_path, world.place.root) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert not [
        name for name, repository in hub.repositories.items() if TOKEN.encode() in b"".join(repository.files.values())
    ]


def test_the_command_asks_for_the_token_and_does_not_show_it(world, pushing, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    asked = ["export", world.run.id, "--to", str(tmp_path / "m"), "--push", "o/n", "--workspace", str(world.place.root)]
    ended = CliRunner().invoke(app, asked, input=f"{TOKEN}\n")
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.splitlines()[-1] == f"{pushing.url}/o/n"
    assert TOKEN not in ended.output
    assert CliRunner().invoke(app, [*asked, "--token", TOKEN]).exit_code == 2


def test_the_command_prints_the_folder_and_takes_a_comparison(world, tmp_path):
    at = ["--to", str(tmp_path / "m"), "--workspace", str(world.place.root)]
    ended = CliRunner().invoke(app, ["export", world.run.id, "--comparison", world.comparison.id, *at])
    assert ended.stdout.splitlines() == [str(tmp_path / "m")], ended.output
    assert world.comparison.id in (tmp_path / "m" / "README.md").read_text()
    assert CliRunner().invoke(app, ["export", "nothing", *at]).exit_code == 2


def test_nothing_heavy_is_imported_before_a_model_is_opened():
    heavy = ("torch", "open_clip", "gradio", "streamlit", "huggingface_hub")
    program = f"import sys, clipdemo.cli, clipdemo.export; print([m for m in {heavy} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
