"""Pages have acts done through `ui/acts.py` only, and each of them asks first."""

import ast
import io
from pathlib import Path

import pytest

from clipdemo.errors import Forbidden
from clipdemo.hosting import policy
from clipdemo.ui import acts, roles

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*(ROOT / "pages").glob("*.py"), *(ROOT / "clipdemo" / "ui").rglob("*.py")]
ACTING = {
    "submit", "launch", "enqueue", "move", "change_device", "delete", "rename", "unlink", "rmtree", "keep_upload",
    "set_mark", "pin", "make_room", "write_json", "atomic_write", "write_text", "write_bytes", "mkdir", "stop",
}  # fmt: skip


def calls(path):
    """(what is called, on what) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, ast.unparse(node.func.value)
            elif isinstance(node.func, ast.Name):
                yield node.func.id, ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_acts_by_itself(path):
    if path.name == "acts.py":
        return
    found = [(name, on) for name, on in calls(path) if name in ACTING and on not in ("acts", "live", "st", "np")]
    assert found == []


def test_every_act_asks_first():
    tree = ast.parse((ROOT / "clipdemo" / "ui" / "acts.py").read_text())
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert len(public) >= 8
    for function in public:
        first = next(node for node in function.body if not isinstance(node.value, ast.Constant))
        assert ast.unparse(first).startswith("roles.require("), function.name


def test_every_command_that_pages_start_needs_a_right():
    with pytest.raises(KeyError):
        acts.start(None, "unheard of", [], {})


@pytest.mark.parametrize("command", acts._NEEDS)
def test_a_visitor_starts_nothing(monkeypatch, workspace, command):
    monkeypatch.setattr(roles, "rules", lambda: policy({"CLIPDEMO_HOSTED": "1"}))
    with pytest.raises(Forbidden):
        acts.start(workspace, command, [], {})
    assert workspace.names("jobs") == []


@pytest.mark.parametrize(
    ("act", "arguments"),
    [
        ("stop", ("job",)), ("move", ("job", 1)), ("change_device", ("job", "cpu")), ("delete", ("runs", "run")),
        ("mark", (None, "picture", True)),
    ],
)  # fmt: skip
def test_a_visitor_has_nothing_done(monkeypatch, workspace, act, arguments):
    monkeypatch.setattr(roles, "rules", lambda: policy({"CLIPDEMO_HOSTED": "1"}))
    with pytest.raises(Forbidden, match="the teacher signs in"):
        getattr(acts, act)(workspace, *arguments)


def test_a_visitor_renames_pins_and_keeps_nothing(monkeypatch, workspace):
    monkeypatch.setattr(roles, "rules", lambda: policy({"CLIPDEMO_HOSTED": "1"}))
    for attempt in (
        lambda: acts.rename(None, "x"),
        lambda: acts.pin(None, True),
        lambda: acts.keep_upload([("x.csv", io.BytesIO(b"x"))], workspace),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert workspace.names("uploads") == []
