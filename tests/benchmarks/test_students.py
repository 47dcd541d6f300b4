import numpy as np
import pandas as pd
import pytest
from streamlit.dataframe_util import convert_pandas_df_to_arrow_bytes
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks import students
from benchmarks.students import Log, Student, foreign_secrets, memory_summary, secret_words
from tests import workspace_factory as factory

OWN, OTHER, THIRD = SECRETS = secret_words(3, seed=1)


def text(words):
    message = ForwardMsg()
    message.delta.new_element.markdown.body = f"Neighbours of {words} are"
    return message


def label(words):
    message = ForwardMsg()
    message.delta.new_element.text_input.label = words
    return message


def value(words):
    message = ForwardMsg()
    message.delta.new_element.text_input.value = f"a{words}"
    return message


def address(words):
    message = ForwardMsg()
    message.page_info_changed.query_string = f"section=words&words={words}%20chest"
    return message


def file_name(words):
    message = ForwardMsg()
    message.delta.new_element.imgs.imgs.add(url="/media/x.png", alt=f"{words}.png")
    return message


def table(words):
    message = ForwardMsg()
    frame = pd.DataFrame({"name": ["x", words]})
    message.delta.new_element.dataframe.arrow_data.data = convert_pandas_df_to_arrow_bytes(frame)
    return message


def chart(words):
    message = ForwardMsg()
    message.delta.new_element.plotly_chart.spec = f'{{"title": "{words}"}}'
    return message


MESSAGES = pytest.mark.parametrize("message", [text, label, value, address, file_name, table, chart])


@MESSAGES
def test_another_students_word_is_found_wherever_a_message_has_it(message):
    assert foreign_secrets(message(OTHER).SerializeToString(), OWN, SECRETS) == {OTHER}


@MESSAGES
def test_ones_own_word_is_no_leak(message):
    assert foreign_secrets(message(OWN).SerializeToString(), OWN, SECRETS) == set()


def test_all_foreign_words_are_found_in_any_case_and_beside_ones_own():
    data = f"{OWN}{OTHER.upper()}, zqx{THIRD.title()}".encode()
    assert foreign_secrets(data, OWN, SECRETS) == {OTHER, THIRD}


def test_words_of_nobody_are_no_leak():
    assert foreign_secrets(b"zqxabcdefghi zqx", OWN, [OWN, OTHER]) == set()


def test_secret_words_differ_and_come_from_the_seed():
    words = secret_words(500)
    assert len(set(words)) == 500 and words == secret_words(500) and words != secret_words(500, seed=1)
    assert all(foreign_secrets(word.encode(), "", words) == {word} for word in words)


# ---- a student in a class with a server that is nothing but a list of messages


class Page:
    """Stands for `Session`: one run that sends what it was given."""

    id = "session"

    def __init__(self, messages, query="", texts=(), errors=(), exceptions=()):
        self.query, self.texts, self.errors, self.exceptions = query, list(texts), list(errors), list(exceptions)
        self.widgets, self.states, self._messages = [], {}, messages

    def run(self, hear):
        for message in self._messages:
            hear(message.SerializeToString())


@pytest.fixture
def student(workspace, monkeypatch):
    """The first of three; Explore's neighbours are made up."""
    sample = factory.make_sample(workspace)
    monkeypatch.setattr(students.Place, "near", lambda self, words: [f"0.12 · {words}"])
    place = students.Place(workspace, sample, factory.make_comparison(workspace, sample), [])
    return Student(0, SECRETS, "http://127.0.0.1:9", place, Log())


def draws(student, page):
    student.session = page
    student._ask("a page", lambda: page.run(student.hear))
    return student.log


def test_a_run_with_ones_own_word_is_clean(student):
    log = draws(student, Page([text(OWN), address(OWN)]))
    assert (log.leaks, log.problems, log.messages, len(log.seconds["a page"])) == ([], [], 2, 1)


def test_a_planted_leak_is_counted_with_its_victim_and_its_page(student):
    log = draws(student, Page([text(OWN), text(OTHER)]))
    assert log.leaks == [f"student 0 at a page was sent {OTHER}"]


@pytest.mark.parametrize("wrong", [{"errors": ["choose one of those"]}, {"exceptions": ["redacted"]}])
def test_a_red_line_or_an_exception_is_a_problem(student, wrong):
    (problem,) = draws(student, Page([], **wrong)).problems
    assert next(iter(wrong.values()))[0] in problem


def test_a_picture_that_is_not_there_is_a_problem(student):
    student.session = Page([], query="picture=made_up_049", texts=["made\\_up\\_049"])
    student._expect_picture("made_up_049")
    assert (student.log.checks, student.log.problems) == (1, [])
    student._expect_picture("made_up_050")
    assert len(student.log.problems) == 1


@pytest.mark.parametrize(("asked", "query", "fine"), [
    ("weights", "comparison=x&section=weights", True), ("weights", "comparison=x&section=worth", False),
    ("board", "comparison=x", True), ("board", "section=board", False), ("worth", "", False),
])  # fmt: skip
def test_a_section_that_another_one_chose_is_a_problem(student, asked, query, fine):
    student.session = Page([], query=query)
    student._expect_section(asked)
    assert (not student.log.problems) is fine


def test_a_filter_of_somebody_else_is_a_problem(student):
    student.session = Page([], texts=["12 of 60 pictures"])
    student._expect_count(12)
    assert student.log.problems == []
    student._expect_count(60)
    assert len(student.log.problems) == 1


# ---- memory


def series(slope, minutes=10, spikes=()):
    """(seconds, bytes) every 5 s: 100 MB that grow by so many a minute, with some more at the spikes."""
    times = np.arange(0, 60 * minutes + 1, 5.0)
    return [(at, 1e6 * (100 + slope * at / 60 + (400 if at in spikes else 0))) for at in times]


@pytest.mark.parametrize("slope", [0.0, 3.0, -1.5])
def test_memory_summary_finds_a_slope(slope):
    found = memory_summary(series(slope), warm_up=120)
    assert found["megabytes_a_minute"] == found["first_half"] == found["second_half"] == pytest.approx(slope)
    assert (found["at_first"], found["after_warm_up"]) == (100, round(100 + 2 * slope))
    assert found["at_the_end"] == round(100 + 10 * slope) and len(found["by_minute"]) == 11


def test_what_comes_before_the_end_of_the_warm_up_is_in_the_peak_only():
    found = memory_summary(series(0.0, spikes=[10.0, 60.0]), warm_up=120)
    assert found["most"] == 500 and found["megabytes_a_minute"] == pytest.approx(0)


def test_memory_that_fills_a_cache_is_told_from_a_leak_by_its_halves():
    looks = [(at, 1e6 * (100 + min(at / 60, 6) * 10)) for at in np.arange(0, 601, 5.0)]
    found = memory_summary(looks, warm_up=120)
    assert found["first_half"] > 9 and found["second_half"] == pytest.approx(0, abs=0.5)
