import json

import pytest

from tests.pages.reading import text_of


def test_empty_workspace_sends_one_home(open_page):
    app = open_page("compare")
    assert not app.exception and not app.error
    assert "There is no comparison yet" in text_of(app)
    assert len(app.get("page_link")) == 1


def test_the_table_of_the_paper_with_ones_own_numbers_and_intervals(open_page, full):
    own, paper, captions = (table.value for table in open_page("compare").table)
    says = own.map(lambda text: text.replace("\xa0", " "))
    assert says["Top-1"].tolist() == [
        "25.0 % :gray[8.9 to 53.2]",
        "50.0 % :gray[25.4 to 74.6]",
        "75.0 % :gray[46.8 to 91.1]",
    ]
    assert [text[:7] for text in says["Top-3"]] == ["50.0 % ", "100.0 %", "100.0 %"]
    assert [text.partition(" ")[0] for text in says["Over base"]] == ["–", "+25.0", "+50.0"]
    assert own["n"].tolist() == ["12", "12", "12"]
    assert paper["Top-1"].str.replace("\xa0", " ").tolist() == ["49.4 %", "64.3 %", "76.9 %"]
    assert len(captions) == 3


def test_differences_are_said_in_words_and_chance_is_not_sold_as_a_result(open_page, full):
    text = text_of(open_page("compare"))
    assert "too close to call on 12 pictures" in text
    assert "adjusted for 2 comparisons" in text


def test_a_model_below_the_base_points_down(open_page, full, workspace):
    path = workspace.folder("comparisons", full.id) / "comparison.json"
    values = json.loads(path.read_text())
    values["models"][1]["top1"] = 0.05  # the base has 25 %
    path.write_text(json.dumps(values))
    _, captions, labels = open_page("compare").metric
    assert captions.delta == "-20.0 points against base"
    assert captions.proto.direction == captions.proto.DOWN
    assert labels.proto.direction == labels.proto.UP


def test_the_papers_numbers_are_marked_as_quoted(open_page, full):
    text = text_of(open_page("compare"))
    assert "Quoted from Table 1" in text
    assert "PubMedVision" in text and "ViT-B/32" in text


def test_the_command_and_the_files_are_there(open_page, full):
    app = open_page("compare", section="report")
    assert app.code[0].value == (
        "python -m clipdemo experiment --source phantom --samples 60 --seed 0 --train 0.6 --validation 0.2 --test 0.2"
    )
    assert len(app.get("download_button")) == 3
    assert app.query_params["comparison"] == full.id


@pytest.mark.parametrize("name", ["../../etc", "unknown-id", "![x](http://example.org/x.png)"])
def test_an_unknown_comparison_in_the_address_is_one_line(open_page, full, name):
    app = open_page("compare", comparison=name)
    assert len(app.error) == 1 and not app.exception
    assert "![" not in app.error[0].value
    assert not app.table


def test_a_damaged_comparison_is_one_line(open_page, full, workspace):
    path = workspace.folder("comparisons", full.id) / "comparison.json"
    values = json.loads(path.read_text())
    del values["models"]
    path.write_text(json.dumps(values))
    app = open_page("compare")
    assert len(app.error) == 1 and not app.exception
