import pytest

from clipdemo.errors import BadSettings
from clipdemo.sources.columns import guess_columns


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["file_name", "text"], {"image": "file_name", "caption": "text"}),
        (["id", "Image Path", "Body-Part"], {"image": "Image Path", "label": "Body-Part"}),
        (["path", "image", "y", "PatientID"], {"image": "image", "label": "y", "group": "PatientID"}),
        (["findings", "finding"], {"caption": "findings", "label": "finding"}),
        (["impression", "report", "class"], {"caption": "report", "label": "class"}),
        (["CAPTION", "caption", "study_id"], {"caption": "CAPTION", "group": "study_id"}),
        (["a", "b"], {}),
        ([], {}),
    ],
)
def test_usual_names_are_found_in_order_of_priority_without_case_spaces_and_hyphens(names, expected):
    assert guess_columns(names) == expected


def test_the_column_known_to_hold_pictures_is_the_image_unless_the_user_says_otherwise():
    assert guess_columns(["file_name", "scan"], image="scan") == {"image": "scan"}
    assert guess_columns(["file_name", "scan"], "scan", {"image": "file_name"}) == {"image": "file_name"}
    assert guess_columns(["file_name", "scan"], "scan", {"image": "none"}) == {}


def test_a_chosen_column_is_not_guessed_for_something_else():
    assert guess_columns(["image", "text"], chosen={"label": "text", "caption": ""}) == {
        "image": "image",
        "label": "text",
    }


def test_the_user_may_choose_one_column_for_two_things():
    chosen = {"label": "diagnosis", "caption": "diagnosis"}
    assert guess_columns(["image", "diagnosis"], chosen=chosen) == {"image": "image"} | chosen


def test_none_means_that_a_column_that_is_there_is_not_used():
    assert guess_columns(["image", "label"], chosen={"label": "none"}) == {"image": "image"}


def test_a_chosen_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(BadSettings, match=r"^label_column = 'klass': there is no such column, only image, class$"):
        guess_columns(["image", "class"], chosen={"label": "klass"})
    with pytest.raises(BadSettings, match="only none at all"):
        guess_columns([], chosen={"label": "klass"})
    with pytest.raises(BadSettings, match="c19 and 99,980 more"):
        guess_columns([f"c{i}" for i in range(100_000)], chosen={"label": "klass"})
