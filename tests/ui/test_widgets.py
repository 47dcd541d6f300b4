import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.ui import widgets


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 00 s"), (151, "2 min 31 s"), (7320, "2 h 02 min")]
)
def test_clock(seconds, text):
    assert widgets.clock(seconds) == text


def test_markdown_from_outside_is_shown_as_it_is():
    assert widgets.plain("![x](http://a.b) :red[y] $z$") == r"\!\[x\]\(http\:\/\/a\.b\) \:red\[y\] \$z\$".replace(
        r"\/", "/"
    )


@given(st.text(max_size=200), st.integers(1, 50))
def test_shortened_text_is_short_and_says_so(text, characters):
    short = widgets.shortened(text, characters)
    assert short == text or (len(short) <= characters + 2 and short.endswith("…"))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        (
            "clipdemo.ui.home, clipdemo.ui.data, clipdemo.ui.train, clipdemo.ui.compare",
            ("torch", "open_clip", "gradio"),
        ),
        ("clipdemo.experiment, clipdemo.jobs, clipdemo.charts, clipdemo.commands", ("streamlit", "gradio", "torch")),
    ],
)
def test_what_a_process_does_not_need_it_does_not_import(module, absent):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
