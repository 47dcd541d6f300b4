"""`classify` on the command line: tables, lines of JSON, a CSV file, and exit codes."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from clipdemo.classify import classify, open_classifier, zero_shot
from clipdemo.cli import app
from clipdemo.comparison import measure
from clipdemo.drop import dropped_picture
from clipdemo.progress import finish
from clipdemo.records import RunConfig
from tests.fuzz import zip_of
from tests.workspace_factory import make_real_run


@pytest.fixture(scope="module")
def comparison(place, sample, base):
    return finish(measure(sample, place, [make_real_run(place, sample, RunConfig(mode="labels", base=base))], [base]))


@pytest.fixture
def command(place, comparison):
    def run(*arguments):
        given = ["classify", *map(str, arguments), "--workspace", str(place.root), "--comparison", comparison.id]
        return CliRunner().invoke(app, given)

    return run


@pytest.fixture
def files(tmp_path, sample):
    """Two good pictures in a folder, two in a ZIP, and a bad one."""
    images = [sample.picture(name) for name in sample.manifest["image"][:4]]
    (tmp_path / "chest").mkdir()
    for i in range(2):
        (tmp_path / "chest" / f"{i}.png").write_bytes(images[i])
    (tmp_path / "eye.zip").write_bytes(zip_of({f"eye/{i}.png": images[i] for i in (2, 3)} | {".DS_Store": b"x"}))
    (tmp_path / "bad.png").write_bytes(b"no picture at all")
    return [tmp_path / name for name in ("chest", "eye.zip", "bad.png")], images


def test_json_lines_are_what_the_library_says(command, files, place, comparison):
    paths, images = files
    run = command(*paths, "--json", "--k", 2)
    assert run.exit_code == 0, run.output
    found = [json.loads(line) for line in run.stdout.splitlines()]
    classifier = finish(open_classifier(place, comparison))
    names = ("chest/0.png", "chest/1.png", "eye.zip/eye/0.png", "eye.zip/eye/1.png")
    names = (*names[:2], "eye.zip/eye/2.png", "eye.zip/eye/3.png")
    pictures = [dropped_picture(data, name, classifier.sizes) for data, name in zip(images, names, strict=True)]
    expected = [json.loads(json.dumps(result.plain())) for result in classify(classifier, pictures, 2)]
    assert found == expected and [one["label"] for one in found] == ["Chest", "Chest", "Eye", "Eye"]
    assert "bad.png is something else, not a picture" in run.stderr and "1 x file is not a picture" in run.stderr
    assert "1 hidden files" in run.stderr


def test_people_get_a_table_with_accuracy_and_false_alarms(command, files):
    run = command(*files[0])
    assert run.exit_code == 0, run.output
    assert "4 pictures" in run.stdout and "Base" in run.stdout and "Labels" in run.stdout
    assert "of 4 pictures with a known class right" in run.stdout and "of 24 more pictures" in run.stdout


def test_csv_holds_a_row_a_picture(command, files, tmp_path):
    run = command(*files[0], "--csv", tmp_path / "out.csv")
    assert run.exit_code == 0, run.output
    table = pd.read_csv(tmp_path / "out.csv")
    assert (
        len(table) == 4 and table["name"][0] == "chest/0.png" and table["label"].tolist() == ["Chest"] * 2 + ["Eye"] * 2
    )


def test_own_labels_and_sentence(command, files, place, comparison):
    run = command(files[0][0], "--label", "Cat", "--label", "Chest", "--template", "{label}!", "--json")
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout.splitlines()[0])
    classifier = zero_shot(finish(open_classifier(place, comparison)), ["Cat", "Chest"], "{label}!")
    pictures = [dropped_picture(data, f"chest/{i}.png", classifier.sizes) for i, data in enumerate(files[1][:2])]
    assert found == json.loads(json.dumps(classify(classifier, pictures)[0].plain()))


def test_nothing_good_is_exit_code_1(command, files):
    run = command(files[0][2])
    assert run.exit_code == 1 and run.stdout == "" and "none of the files" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--label", "Cat"], "1 labels: give 2"),
        (["--label", "Cat", "--label", "cat"], "is there twice"),
        (["--label", "Cat", "--label", "Dog", "--template", "x"], "holds {label} exactly once"),
        (["--template", "{label}"], "give them with --label"),
    ],
)
def test_settings_that_cannot_work_are_one_line_and_exit_code_2(command, files, arguments, says):
    run = command(files[0][0], *arguments)
    assert run.exit_code == 2 and says in run.stderr and run.stdout == ""


def test_an_unknown_comparison_is_named(place, files):
    run = CliRunner().invoke(
        app, ["classify", str(files[0][0]), "--comparison", "nothing", "--workspace", str(place.root)]
    )
    assert run.exit_code == 2 and "there is no comparison 'nothing'" in run.stderr


def test_without_a_comparison_the_built_in_base_answers(files, tmp_path):
    run = CliRunner().invoke(app, ["classify", str(files[0][0]), "--json", "--workspace", str(tmp_path / "new")])
    assert run.exit_code == 0, run.output
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == 2 and found[0]["answers"][0]["title"] == "Base" and isinstance(found[0]["familiar"], bool)
