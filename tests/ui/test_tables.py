import pytest

from clipdemo.appearance import appearances
from clipdemo.comparison import all_predictions
from clipdemo.leaderboard import leaderboard
from clipdemo.records import CleaningReport, DroppedRows
from clipdemo.training.runs import load_run
from clipdemo.ui import tables
from tests import workspace_factory as factory


def test_the_cleaning_table_adds_up_to_its_first_line():
    report = CleaningReport(
        rows=10,
        dropped=[DroppedRows(reason="label is empty", count=3, examples=["", "x"])],
        sampled=5,
        not_drawn=2,
        relabelled=0,
        source_classes={"Cat": 7},
        split_classes={"train": {"Cat": 3}, "validation": {"Cat": 1}, "test": {"Cat": 1}},
    )
    table = tables.cleaning_table(report)
    assert table["Rows"].tolist() == [10, 3, 2, 3, 1, 1, 10]
    assert table["For example"].tolist()[1] == "(empty) · x"


def test_the_papers_table_is_table_1():
    table = tables.paper_table()
    assert table["Top-1"].tolist() == ["49.4\xa0%", "64.3\xa0%", "76.9\xa0%"]
    assert table["Top-3"].tolist() == ["78.9\xa0%", "83.1\xa0%", "92.1\xa0%"]
    assert table["Over base"].tolist() == ["–", "+14.9", "+27.5"]


@pytest.mark.parametrize(("difference", "text"), [(0.149, "+14.9"), (-0.02, "−2.0"), (0.0, "+0.0")])
def test_points_carry_their_sign(difference, text):
    assert tables.points(difference) == text


def test_a_comparison_without_base_has_nothing_to_be_over(workspace):
    comparison = factory.make_comparison(workspace, factory.make_sample(workspace))
    alone = comparison.model_copy(update={"models": comparison.models[1:]})
    board = leaderboard(alone, all_predictions(workspace, alone))
    assert tables.board_table(board, appearances(alone))["Over base"].tolist() == ["–", "–"]


def test_a_run_that_has_not_ended_has_no_best_epoch(workspace):
    sample = factory.make_sample(workspace)
    config = factory.RunConfig(mode="labels")
    run = factory.make_run(workspace, sample, config, finished=False)
    (row,) = tables.run_table([load_run(workspace, run.id)], {run.id: "interrupted"}).to_dict("records")
    assert row["State"] == "interrupted"
    assert row["Best epoch"] is None
