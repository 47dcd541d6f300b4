from clipdemo.cleaning import OTHERS_LABEL
from clipdemo.progress import finish
from clipdemo.records import SampleConfig
from clipdemo.survey import TRIED, load_survey, survey_source

CONFIG = SampleConfig(source="tiny", samples=50)
ROWS = [("Cat" if i % 2 else "dog", f"caption {i}", "", i) for i in range(60)] + [("Others", "x y", "", 99)] * 3


def test_a_look_says_what_is_there_without_drawing(workspace, tiny_source):
    tiny_source(ROWS, classes=None)
    found = finish(survey_source(CONFIG, workspace))
    assert found.texts == ("captions", "labels")
    assert found.report.source_classes == {"Cat": 30, "dog": 30}
    assert found.report.rows == 63 and found.report.kept == 60
    assert [(d.reason, d.count) for d in found.report.dropped] == [(OTHERS_LABEL, 3)]
    assert found.report.no_labels == {"Others": 3}
    assert found.tried == found.readable == TRIED and found.bytes_a_picture > 0
    assert workspace.names("samples") == []


def test_a_look_is_taken_once_whatever_the_size(workspace, tiny_source):
    source = tiny_source(ROWS)
    assert load_survey(CONFIG, workspace) is None
    found = finish(survey_source(CONFIG, workspace))
    source.rows = []
    other_size = SampleConfig(source="tiny", samples=20, train=0.6, validation=0.2, test=0.2)
    assert finish(survey_source(other_size, workspace)) == found == load_survey(other_size, workspace)


def test_cost_counts_no_more_pictures_than_there_are(workspace, tiny_source):
    tiny_source(ROWS)
    found = finish(survey_source(CONFIG, workspace))
    assert found.cost(10**6) == found.cost(60) == (60 * found.seconds_a_picture, 0)


def test_unreadable_pictures_are_counted(workspace, tiny_source):
    tiny_source([(label, caption, group, None) for label, caption, group, _ in ROWS])
    found = finish(survey_source(CONFIG, workspace))
    assert (found.tried, found.readable, found.bytes_a_picture) == (TRIED, 0, 0)
