import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from clipdemo.cli import app
from clipdemo.embeddings import model_id
from clipdemo.jobs import list_jobs
from clipdemo.models import open_model
from clipdemo.neighbours import neighbourhood, pictures_of_text, texts_of_picture
from clipdemo.progress import finish
from clipdemo.workspace import Workspace
from tests.workspace_factory import make_sample


@pytest.fixture(scope="module")
def space(place, sample, base):
    return finish(neighbourhood(open_model(base), model_id(None, base), sample, place))


@pytest.fixture
def index(place, sample, base):
    """`index COMMAND` on the sample."""

    def run(command, *arguments, on=None, lines=None):
        given = ["--sample", on or sample.id, "--base", base, "--workspace", str(place.root)]
        return CliRunner().invoke(app, ["index", command, *given, *arguments], input=lines)

    return run


def test_build_is_a_job_and_says_what_it_has_built(index, place, sample):
    run = index("build")
    assert run.exit_code == 0, run.output
    assert run.stdout.splitlines() == ["pictures: 60 rows, exact", "captions: 60 rows, exact"]
    job = list_jobs(place)[0]
    assert job.state == "finished" and job.asked["settings"]["sample_id"] == sample.id
    assert len(place.names("indexes")) == 2


def test_json_has_what_the_library_finds(index, space, sample):
    run = index("search", "--text", "a disc", "--k", "4", "--json")
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert (found["sample"], found["text"], found["in"]) == (sample.id, "a disc", "pictures")
    assert found["neighbours"] == [near._asdict() for near in pictures_of_text(space, "a disc", 4)]
    assert found["index"]["kind"] == "exact" and found["index"]["n"] == 60
    run = index("search", "--picture", "made_up_007", "--json", "--k", "3")
    found, expected = json.loads(run.stdout), texts_of_picture(space, 7, 3)
    assert found["in"] == "captions"
    assert found["neighbours"] == [near._asdict() for near in expected.captions]
    assert found["own"] == expected.own._asdict()


def test_the_built_indexes_are_a_line_of_json_too(index, space, sample):
    built = json.loads(index("build", "--json").stdout)
    assert built["sample"] == sample.id and built["run"] is None
    for name, one in (("pictures", space.pictures), ("captions", space.texts)):
        assert built[name] == one.card.model_dump(mode="json")


def test_each_line_of_standard_input_is_a_question(index, space):
    run = index("search", "--text", "-", "--json", "--k", "2", lines="a disc\n\n  \nan arrow at 3 o\u2019clock\r\n")
    assert run.exit_code == 0, run.output
    first, second = map(json.loads, run.stdout.splitlines())
    assert (first["text"], second["text"]) == ("a disc", "an arrow at 3 o\u2019clock")
    assert second["neighbours"] == [near._asdict() for near in pictures_of_text(space, second["text"], 2)]
    assert run.stderr == "2 empty lines were left out\n"


def test_a_line_that_cannot_be_looked_for_says_so_and_the_others_are_answered(index, sample):
    file = str(sample.folder / "images" / sample.manifest["image"].iloc[9])
    lines = f"/no/such.png\n{file}\nx\0y\n".encode() + b"\xff\xfe\n"
    run = index("search", "--image", "-", "--in", "pictures", "--json", lines=lines)
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert ["error" in one for one in told] == [True, False, True, True]
    assert "/no/such.png cannot be read" in told[0]["error"] and told[1]["neighbours"][0]["place"] == 9
    assert run.exit_code == 2 and "3 lines could not be looked for" in run.stderr
    plain = index("search", "--picture", "-", lines="made_up_007\nnobody\n")
    assert plain.exit_code == 2 and "cosine" in plain.stdout and "has no picture 'nobody'" in plain.stderr


def test_a_picture_file_finds_itself(index, sample, space):
    file = sample.folder / "images" / sample.manifest["image"].iloc[9]
    found = json.loads(index("search", "--image", str(file), "--in", "pictures", "--json").stdout)
    assert found["neighbours"][0]["place"] == 9
    captions = json.loads(index("search", "--image", str(file), "--json").stdout)
    assert captions["in"] == "captions" and len(captions["neighbours"]) == 10


def test_filters_choose_pictures(index, space):
    arguments = ["--picture", "made_up_007", "--in", "pictures", "--split", "test", "--split", "validation"]
    found = json.loads(index("search", *arguments, "--label", "Chest", "--json").stdout)["neighbours"]
    assert found and {near["label"] for near in found} == {"Chest"}
    assert {near["split"] for near in found} == {"test", "validation"}


def test_without_json_it_is_a_table(index, space):
    run = index("search", "--text", "a disc", "--k", "2")
    assert run.exit_code == 0 and "cosine" in run.stdout and run.stdout.count("made_up_") == 2
    captions = index("search", "--text", "a disc", "--k", "2", "--in", "captions")
    assert "[nothing]" in captions.stdout  # brackets of a caption are no markup


def test_searching_what_is_ready_starts_no_job(index, space, place):
    before = len(list_jobs(place))
    index("search", "--text", "a disc")
    assert len(list_jobs(place)) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of --text, --picture and --image, not 0"),
        (["--text", "a", "--picture", "b"], "not 2 of them"),
        (["--text", " "], "write a few words"),
        (["--picture", "nobody"], "has no picture 'nobody'"),
        (["--image", "/no/such.png"], "/no/such.png cannot be read"),
        (["--text", "a", "--split", "tset"], "split 'tset'"),
        (["--text", "a", "--label", "Fox"], "class 'Fox'"),
        (["--picture", "made_up_001", "--label", "Chest"], "use them with --in pictures"),
        (["--text", "a", "--run", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_searched_is_one_line_and_exit_code_2(index, space, arguments, says):
    run = index("search", *arguments)
    assert run.exit_code == 2
    assert says in run.stderr and len(run.stderr.splitlines()) == 1 and run.stdout == ""


def test_a_sample_that_is_not_there_is_named(index):
    run = index("build", on="nothing")
    assert run.exit_code == 2 and "there is no sample 'nothing'" in run.stderr


def test_a_pipe_gets_one_line_of_json_even_when_everything_is_built_first(tmp_path, base):
    sample = make_sample(Workspace(tmp_path))
    command = [sys.executable, "-m", "clipdemo", "index", "search", "--sample", sample.id, "--base", base]
    run = subprocess.run(
        [*command, "--text", "a disc", "--json", "--workspace", str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 1 and len(json.loads(run.stdout)["neighbours"]) == 10
    assert "index" in run.stderr
