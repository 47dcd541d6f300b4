"""Every command that the documentation shows exists, with all of its options; every link leads somewhere."""

import re
import shlex

import pytest
import typer

from clipdemo.cli import app
from tools.like_docker import ROOT

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:(?:^|[\s/`])python3?|torchrun[^`\n]*?) -m clipdemo(?= |`|$)([^`\n#|>&;]*)")


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")


def commands(text):
    """The words after `-m clipdemo`, wherever that stands."""
    return [shlex.split(found[1]) for found in COMMAND.finditer(text)]


def missing(words):
    """What a command asks for and the command line does not have; "" when all of it is there."""
    command, place = typer.main.get_command(app), "clipdemo"
    words = [word for word in words if word not in ("...", "…")]
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return f"{place} {words[0]}"
        place, command, words = f"{place} {words[0]}", command.commands[words[0]], words[1:]
    known = {"--help"}.union(*(parameter.opts + parameter.secondary_opts for parameter in command.params))
    return " ".join(word for word in words if word.startswith("--") and word.partition("=")[0] not in known)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_documentation_exist(page):
    assert [f"{' '.join(words)}: {lost}" for words in commands(text_of(page)) if (lost := missing(words))] == []


def test_the_documentation_shows_commands():
    assert sum(len(commands(text_of(page))) for page in PAGES) >= 20


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("`python -m clipdemo fly`", "clipdemo fly"),
        ("    .venv/bin/python -m clipdemo index burn --sample ID", "clipdemo index burn"),
        ("torchrun --nproc-per-node 2 -m clipdemo train --mode captions --wings 2", "--wings"),
        ("python -m clipdemo train --mode captions --sample ID  # --not-one", ""),
    ],
)
def test_a_command_that_is_not_there_is_found(text, lost):
    (words,) = commands(text)
    assert missing(words) == lost


@pytest.mark.parametrize("page", PAGES)
def test_modules_named_in_the_documentation_exist(page):
    names = set(re.findall(r"python3? -m ((?:benchmarks|tools|clipdemo)\.\w+)", text_of(page)))
    assert [name for name in names if not (ROOT / (name.replace(".", "/") + ".py")).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text_of(page))
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_every_variable_of_the_program_is_documented():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "clipdemo").rglob("*.py"))
    names = set(re.findall(r"\bCLIPDEMO_[A-Z_]*[A-Z]\b", code))
    assert len(names) >= 10
    assert [name for name in sorted(names) if f"`{name}`" not in text_of("docs/hosting.md")] == []
