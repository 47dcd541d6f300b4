import logging
import subprocess
import sys

import pytest

from clipdemo.errors import ComparisonError
from clipdemo.marks import marked, set_mark
from tests import workspace_factory as factory


@pytest.fixture
def comparison(workspace):
    return factory.make_comparison(workspace, factory.make_sample(workspace))


@pytest.fixture
def path(workspace, comparison):
    return workspace.folder("comparisons", comparison.id) / "marks.json"


def test_nothing_is_marked_at_first(workspace, comparison, path):
    assert marked(workspace, comparison) == frozenset()
    assert not path.exists()


def test_a_mark_stays_until_it_is_taken_back(workspace, comparison):
    set_mark(workspace, comparison, "a", True)
    set_mark(workspace, comparison, "b", True)
    set_mark(workspace, comparison, "a", True)
    assert marked(workspace, comparison) == {"a", "b"}
    set_mark(workspace, comparison, "a", False)
    set_mark(workspace, comparison, "never marked", False)
    assert marked(workspace, comparison) == {"b"}


def test_another_comparison_has_marks_of_its_own(workspace, comparison):
    other = factory.make_comparison(workspace, factory.make_sample(workspace, seed=1))
    set_mark(workspace, comparison, "a", True)
    assert marked(workspace, other) == frozenset()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"wrong_labels": null}', '{"wrong_labels": 7}', '{"wrong": ["a"]}', "\udcff",
     '{"wrong_labels": "made_up_048"}', '{"wrong_labels": {"a": 1}}'],
)  # fmt: skip
def test_damaged_marks_count_as_none_and_the_log_says_so(workspace, comparison, path, caplog, text):
    path.write_bytes(text.encode(errors="surrogateescape"))
    with caplog.at_level(logging.WARNING, logger="clipdemo.marks"):
        assert marked(workspace, comparison) == frozenset()
    assert comparison.id in caplog.text
    set_mark(workspace, comparison, "a", True)  # and marking goes on
    assert marked(workspace, comparison) == {"a"}


def test_marks_of_a_comparison_that_was_deleted_are_refused_in_one_line(workspace, comparison):
    workspace.delete("comparisons", comparison.id)
    assert marked(workspace, comparison) == frozenset()
    with pytest.raises(ComparisonError, match=comparison.id):
        set_mark(workspace, comparison, "a", True)


PROGRAM = """
import sys
from clipdemo.comparison import load_comparison
from clipdemo.marks import set_mark
from clipdemo.workspace import Workspace

place = Workspace(sys.argv[1])
comparison = load_comparison(place, sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    set_mark(place, comparison, f"{sys.argv[3]} {i}", True)
"""


def test_two_processes_that_mark_at_once_both_keep_theirs(workspace, comparison):
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(workspace.root), comparison.id, who],
            stdin=pipe, stdout=pipe, text=True,
        )
        for who in ("one", "two")
    ]  # fmt: skip
    for one in both:
        assert one.stdout.readline() == "ready\n"
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in both:
        one.communicate()
    assert marked(workspace, comparison) == {f"{who} {i}" for who in ("one", "two") for i in range(20)}
