import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from huggingface_hub import RepoCard

from clipdemo.comparison import compare
from clipdemo.export import export_space
from clipdemo.models import ASSETS, open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import finish
from clipdemo.prompts import prompts_of
from clipdemo.records import RunConfig
from clipdemo.sampling import load_sample
from clipdemo.workspace import Workspace, read_json, write_json
from tests.isolation import only
from tests.workspace_factory import make_evaluation, make_real_run, make_sample
from tools.check_export import OFFLINE, started

REQUIREMENTS = (ASSETS / "space" / "requirements.txt").read_text().splitlines()


class World:
    def __init__(self, root, **settings):
        self.place = Workspace(root / "workspace")
        self.sample = make_sample(self.place, **settings)
        self.run = make_real_run(self.place, self.sample, RunConfig(mode=self.sample.texts[-1]))

    def export(self, folder):
        return finish(export_space(self.run, self.place, folder))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = World(tmp_path_factory.mktemp("world"))
    models = (("base", None), ("labels", found.run))
    compare([make_evaluation(found.place, found.sample, name, run) for name, run in models], found.place)
    return found


@pytest.fixture(scope="module")
def space(world, tmp_path_factory):
    return world.export(tmp_path_factory.mktemp("exported") / "space")


@pytest.fixture(scope="module")
def asked(space, tmp_path_factory):
    """A client of the Space's app, which runs offline with nothing but its own requirements."""
    log = tmp_path_factory.mktemp("app") / "log.txt"
    with started(sys.executable, space, log, OFFLINE + only(REQUIREMENTS)) as url:
        client = Client(url, verbose=False)
        yield lambda *arguments: client.predict(*arguments, api_name="/classify")
        assert "ASKED FOR" not in log.read_text()


def confidences(answer):
    return {entry["label"]: entry["confidence"] for entry in answer["confidences"]}


def test_it_answers_as_the_model_does_with_the_scale_of_validation(world, space, asked):
    row = world.sample.rows("test").iloc[3]
    found = confidences(asked(handle_file(str(world.sample.folder / "images" / row["image"])), ""))
    clip = open_model(world.run.config.base, world.run.weights)
    pixels = finish(sample_pixels(world.sample, clip.image_size, world.place))[[row.name]]
    scores = clip.encode_images(pixels) @ clip.encode_classes(world.sample.classes).T
    exponents = np.exp(2.0 * scores[0])  # 2.0 is the made-up evaluation's `validation_logit_scale`
    probabilities = exponents / exponents.sum()
    first = np.argsort(-probabilities)[:5]
    assert list(found) == [world.sample.classes[i] for i in first]
    assert list(found.values()) == pytest.approx(probabilities[first], abs=1e-5)


def test_it_chooses_among_labels_that_somebody_writes(space, asked):
    picture = handle_file(str(space / "examples" / "1.png"))
    assert confidences(asked(picture, "a dog\n\n a cat \na dog")).keys() == {"a dog", "a cat"}


@pytest.mark.parametrize("labels", ["alone", "\n".join(map(str, range(101))), "short\n" + "long" * 51])
def test_labels_that_cannot_work_are_refused_in_words(space, asked, labels):
    with pytest.raises(Exception, match="2 to 100 different labels"):
        asked(handle_file(str(space / "examples" / "1.png")), labels)


def test_no_picture_is_no_crash(asked):
    with pytest.raises(Exception, match="A picture, please"):
        asked(None, "")


def test_the_folder_says_how_it_is_run(space, world):
    card = RepoCard.load(space / "README.md", repo_type="space")
    data = card.data.to_dict()
    assert data["sdk"] == "gradio" and data["app_file"] == "app.py" and data["license"] == "apache-2.0"
    assert {"sdk_version", "python_version"} <= data.keys()
    assert len(data["short_description"]) <= 60
    assert "Not for diagnosis" in card.text
    app = (space / "app.py").read_text()
    assert "clipdemo" not in app
    labels = read_json(space / "labels.json")
    assert labels["labels"] == {label: prompts_of(label) for label in world.sample.classes}
    assert labels["logit_scale"] == 2.0
    assert (space / "model" / "README.md").exists()


def test_pictures_of_somebody_are_no_examples(tmp_path):
    world = World(tmp_path)
    meta = read_json(world.sample.folder / "sample.json")
    write_json(world.sample.folder / "sample.json", meta | {"synthetic": False})
    assert not load_sample(world.place, world.sample.id).synthetic
    folder = world.export(tmp_path / "space")
    assert not [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".webp")]
    labels = read_json(folder / "labels.json")
    assert "synthetic" not in labels["about"]
    network = open_model(world.run.config.base, world.run.weights)
    assert labels["logit_scale"] == network.logit_scale  # as nothing was measured


def test_without_classes_it_asks_for_labels(tmp_path):
    world = World(tmp_path, texts=("captions",))
    folder = world.export(tmp_path / "space")
    assert json.loads((folder / "labels.json").read_text())["labels"] == {}
    with started(sys.executable, folder, Path(tmp_path / "log.txt"), OFFLINE + only(REQUIREMENTS)) as url:
        client = Client(url, verbose=False)
        picture = handle_file(str(next((folder / "examples").iterdir())))
        with pytest.raises(Exception, match="Write two or more labels"):
            client.predict(picture, "", api_name="/classify")
        assert confidences(client.predict(picture, "dark\nbright", api_name="/classify")).keys() == {"dark", "bright"}
