"""The model card: what a stranger must know before using the model, as Markdown with the Hub's metadata.

Names of classes and columns come from data that nobody vouches for. They stand in the card as plain words: what
Markdown or HTML would take for a sign is escaped, and nothing in it becomes a link, a picture or a heading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from clipdemo import __version__
from clipdemo.export.facts import Facts
from clipdemo.models import ASSETS
from clipdemo.records import BUILT_IN_BASE, RunConfig, percent
from clipdemo.reporting import sections
from clipdemo.reporting.sections import Table

LICENCE = "see the base model and the data"  # where one of them is not clipdemo's own
TASK = "zero-shot-image-classification"
_SIGNS = re.compile(r"([\\`*_\[\]|#~!@{}$])")
_LONGEST = 300  # characters of a cell


def words(text: str) -> str:
    """The text in one line of Markdown, as it is read: nothing in it is a sign."""
    flat = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
    safe = _SIGNS.sub(r"\\\1", flat).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = safe.replace("://", ":&#47;&#47;")  # else GitHub and the Hub make links of addresses
    return re.sub(r"(?i)\bwww\.", "www&#46;", safe).strip()


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def fenced(lines: Iterable[str], language: str = "") -> str:
    """Lines as a block of code that none of them can end."""
    body = "\n".join(lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    return f"{fence}{language}\n{body}\n{fence}"


def markdown_table(table: Table | None, facts: Facts) -> str:
    """A table of the report as Markdown; "" for None."""
    if table is None:
        return ""
    sides = [":--" if i < table.names else "--:" for i in range(len(table.head))]
    rows = [[words(_cut(facts.shared(cell))) for cell in row] for row in (table.head, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in (rows[0], sides, *rows[1:])]
    return "\n".join(lines)


def model_card(facts: Facts) -> str:
    """The card of a run, with its metadata at the top."""
    from huggingface_hub import ModelCardData
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    base = facts.run.config.base
    data = ModelCardData(
        **licence(facts),
        library_name="open_clip",
        pipeline_tag=TASK,
        tags=["clip", "open_clip", "clipdemo", *(["synthetic"] if facts.sample.synthetic else [])],
        base_model=base.removeprefix("hf-hub:") if base.startswith("hf-hub:") else None,
        language="en",
        model_name=facts.run.name,
        eval_results=_results(facts) or None,
    )
    environment = Environment(
        loader=FileSystemLoader(ASSETS), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"words": words, "table": lambda table: markdown_table(table, facts)}
    body = environment.get_template("model_card.md.j2").render(
        facts=facts,
        run=facts.run,
        sample=facts.sample,
        comparison=facts.findings.comparison if facts.findings else None,
        summary=facts.shared(sections.summary(facts.findings)) if facts.findings else "",
        tables=_tables(facts),
        base="the base built into clipdemo" if base == BUILT_IN_BASE else facts.shared(base),
        best=percent(facts.run.result.best_validation_top1),
        licence="Apache-2.0" if facts.free else LICENCE,
        commands=fenced(facts.commands(), "sh"),
        version=__version__,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def licence(facts: Facts) -> dict[str, str]:
    """The metadata that says under which licence the weights are."""
    if facts.free:
        return {"license": "apache-2.0"}
    return {"license": "other", "license_name": LICENCE.replace(" ", "-")}


def _tables(facts: Facts) -> dict[str, Table | None]:
    findings = facts.findings
    settings = [
        [name.replace("_", " "), str(getattr(facts.run.config, name)) or sections.NONE]
        for name in RunConfig.model_fields
    ]
    return {
        "leaderboard": sections.leaderboard_table(findings) if findings else None,
        "retrieval": sections.retrieval_table(findings) if findings else None,
        "calibration": sections.calibration_table(findings) if findings and findings.has_classes else None,
        "cleaning": sections.cleaning_table(facts.sample.report, examples=False),
        "splits": sections.splits_table(facts.sample.report),
        "settings": Table("Settings", ["setting", "value"], settings, names=2),
        "origin": _origin(facts),
    }


def _origin(facts: Facts) -> Table:
    config, sizes = facts.sample.config, facts.sample.sizes
    rows = [["source", config.source], ["sample", facts.sample.id], ["its hash", facts.sample.content_hash]]
    rows += [[f"pictures for {split}", f"{n:,}"] for split, n in sizes.items()]
    rows += [[f"source: {name.replace('_', ' ')}", str(value)] for name, value in config.options.items()]
    rows += [[f"origin: {name}", str(value)] for name, value in facts.sample.origin.items()]
    rows += [["captions cut at 77 tokens", f"{facts.sample.report.long_captions:,}"]]
    rows += [["labels spelled otherwise", f"{facts.sample.report.relabelled:,}"]]
    return Table("Data", ["what", "value"], rows, names=2)


def _results(facts: Facts) -> Sequence[object]:
    """The run's main numbers as the Hub keeps them: fractions, with their interval in the name."""
    from huggingface_hub import EvalResult

    if (standing := facts.standing) is None:
        return []
    named = {"top-1": standing.top1, "top-3": standing.top3, "macro top-1": standing.macro_top1}
    named["caption recall at 1"] = standing.caption_recall.get(1)
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=facts.sample.config.source,
            dataset_name=facts.sample.id,
            dataset_split="test",
            metric_type="recall" if "recall" in name else "accuracy",
            metric_name=f"{name} of {found.n} pictures, 95 % interval {found.low:.3f} to {found.high:.3f}",
            metric_value=round(found.value, 4),
        )
        for name, found in named.items()
        if found
    ]
