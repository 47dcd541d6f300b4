"""The report's tables as text, ready to be shown: one function a table. Fractions become per cent here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clipdemo.leaderboard import Estimate, Standing
from clipdemo.paper import PAPER
from clipdemo.records import (
    RETRIEVAL_DEPTHS,
    SPLITS,
    CleaningReport,
    CleaningRules,
    Record,
    RunConfig,
    SampleConfig,
    percent,
)
from clipdemo.reporting.findings import Findings

NONE = "–"
KINDS = ("fixed", "broken", "both", "neither")


@dataclass(frozen=True)
class Table:
    """Rows of text. The first `names` columns hold words and are set to the left, the others numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1


def summary(findings: Findings) -> str:
    """What was found, in a paragraph."""
    board = findings.board
    if not board.n:
        return "No test picture is left that counts, so there is nothing to say."
    classes = f" of {len(findings.answers.classes):,} classes" if findings.answers else ""
    found = [f"{_counted(board.n, 'test picture')}{classes}, {_counted(len(board.standings), 'model')}."]
    if best := max((s for s in board.standings if _main(s)), key=lambda s: _main(s).value, default=None):
        what = "right in first place" if board.measure == "top1" else "finding a picture's own caption first"
        found.append(f"Most often {what}: {best.title}, {_interval(_main(best))}.")
    found += [f"{standing.sentence}." for standing in board.standings if standing.sentence]
    found += [f"{known.in_words()}." for _, known in findings.sweeps if known]
    return " ".join(found)


def _main(standing: Standing) -> Estimate | None:
    return standing.top1 or standing.caption_recall.get(1)


def leaderboard_table(findings: Findings) -> Table:
    """Every model with its intervals and its difference to its base."""
    columns = {"top-1": lambda s: s.top1, "top-3": lambda s: s.top3, "macro top-1": lambda s: s.macro_top1}
    shown = {name: of for name, of in columns.items() if any(of(s) for s in findings.board.standings)}
    rows = []
    for standing in findings.board.standings:
        numbers = [_interval(of(standing)) for of in shown.values()]
        rows.append([_title(findings, standing.model), *numbers, *_difference(findings, standing), f"{standing.n:,}"])
    head = ["model", *shown, "minus its base, points", "fixed / broken", "p (McNemar)", "p (Holm)", "n"]
    return Table("All models, with 95 % intervals", head, rows)


def _difference(findings: Findings, standing: Standing) -> list[str]:
    """Difference, pictures fixed and broken, both p."""
    paired = standing.difference
    if paired is None:
        return [NONE] * 4
    low, high = (_points(limit) for limit in paired.interval)
    shown = f"{_points(paired.difference, sign=True)} {unbroken(f'({low} to {high})')}"
    return [shown, f"{paired.fixed:,} / {paired.broken:,}", _p(paired.p), _p(paired.p_holm)]


def retrieval_table(findings: Findings) -> Table | None:
    """Recall both ways; None where the sample has no captions."""
    standings = [s for s in findings.board.standings if s.caption_recall]
    rows = [
        [
            _title(findings, s.model),
            *(_interval(found[depth]) for found in (s.caption_recall, s.picture_recall) for depth in RETRIEVAL_DEPTHS),
            f"{s.n:,} / {s.picture_recall[1].n:,}",
        ]
        for s in standings
    ]
    head = ["model"] + [f"{what} in first {k}" for what in ("caption", "picture") for k in RETRIEVAL_DEPTHS]
    return Table("Pictures and captions", [*head, "n pictures / captions"], rows) if rows else None


def seeds_table(findings: Findings) -> Table | None:
    """Runs that differ in their seed only; None where there are none."""
    rows = []
    for group in findings.board.groups:
        if (over := group.top1) is not None:
            spread = (
                [NONE, NONE] if over.sd is None else [_points(over.sd), f"{_points(over.low)} to {_points(over.high)}"]
            )
            rows.append([group.title, str(over.n), percent(over.mean), *spread])
    head = ["runs", "seeds", "mean top-1", "standard deviation, points", "95 % t-interval of the mean, %"]
    return Table("Several seeds", head, rows) if rows else None


def paper_table() -> Table:
    """The paper's own three rows."""
    rows = [[title, f"{top1:.1f} %", f"{top3:.1f} %"] for _, title, top1, top3 in PAPER]
    return Table("Quoted from the paper (table 1), not measured here", ["model", "top-1", "top-3"], rows)


def classes_table(findings: Findings) -> Table | None:
    """A row a class: n, and every model's top-1 with its gain."""
    classes = findings.classes
    if classes.empty:
        return None
    first = classes[classes["model"] == findings.models[0].predictions].sort_values(
        ["n", "class"], ascending=[False, True]
    )
    by = classes.set_index(["class", "model"])
    head = ["class", "n"]
    for model in findings.models:
        title = _title(findings, model.predictions)
        head += [title] if findings.bases[model.predictions] is None else [title, "gain, points"]
    rows = []
    for label, n in zip(first["class"], first["n"], strict=True):
        row = [label, f"{n:,}"]
        for model in findings.models:
            own = by.loc[(label, model.predictions)]
            limits = unbroken(f"({100 * own['low']:.0f} to {100 * own['high']:.0f})")
            row.append(f"{unbroken(percent(own['top1']))} {limits}")
            if findings.bases[model.predictions] is not None:
                row.append(_points(own["gain"], sign=True))
        rows.append(row)
    return Table("Top-1 a class, with 95 % intervals", head, rows)


def calibration_table(findings: Findings) -> Table | None:
    """Expected calibration error by logit scale; None where there are no classes."""
    rows = []
    for model in findings.models:
        name = model.predictions
        scales = {"learned": model.logit_scale, "fitted": model.validation_logit_scale}
        if name in findings.calibrations["learned"]:
            row = [_title(findings, name)]
            for kind, scale in scales.items():
                found = findings.calibrations[kind].get(name)
                row += [f"{scale:.1f}", _points(found.ece)] if found and found.ece is not None else [NONE, NONE]
            rows.append([*row, f"{findings.board.n:,}"])
    head = ["model", "learned scale", "error, points", "fitted scale", "error, points", "n"]
    return Table("Expected calibration error", head, rows) if rows else None


def flips_table(findings: Findings) -> Table | None:
    """What each model changes against its base; None where there is nothing to hold models against."""
    if findings.answers is None:
        return None
    rows = []
    for model, base in findings.bases.items():
        if base is not None:
            counts = [f"{len(findings.answers.changed(base, model, kind)):,}" for kind in KINDS]
            rows.append([_title(findings, model), _title(findings, base), *counts, f"{findings.board.n:,}"])
    head = ["model", "against", "fixed", "broken", "both right", "neither right", "n"]
    return Table("Which pictures changed", head, rows, names=2) if rows else None


# ---- how it was made


def cleaning_table(report: CleaningReport, examples: bool) -> Table:
    """Where every row of the source went, with values that were found, if wanted."""
    lines = [("rows of the source", report.rows, "")]
    lines += [
        (f"left out: {d.reason}", d.count, " · ".join(e or "(empty)" for e in d.examples)) for d in report.dropped
    ]
    lines += [("clean, not needed", report.not_drawn, "")]
    lines += [(f"in the sample: {split}", sum(report.split_classes[split].values()), "") for split in SPLITS]
    rows = [[what, *([found] if examples else []), f"{n:,}"] for what, n, found in lines]
    head = ["what", *(["for example"] if examples else []), "rows"]
    return Table("Where every row of the source went", head, rows, names=len(head) - 1)


def splits_table(report: CleaningReport) -> Table | None:
    """Pictures a class and split; None without labels."""
    rows = [
        [label, f"{n:,}", *(f"{report.split_classes[split].get(label, 0):,}" for split in SPLITS)]
        for label, n in sorted(report.source_classes.items(), key=lambda item: (-item[1], item[0]))
    ]
    return Table("Pictures a class", ["class", "cleaned source", *SPLITS], rows) if rows else None


def sample_table(findings: Findings) -> Table:
    """What the sample was asked to be, and what it is."""
    comparison, sample = findings.comparison, findings.sample
    rows = [["sample", comparison.sample], *_settings(comparison.sample_config)]
    rows += [[f"pictures for {split}", f"{n:,}"] for split, n in comparison.sizes.items()]
    if sample:
        rows.append(["texts", " and ".join(sample.texts)])
        rows += [[f"origin: {name}", str(value)] for name, value in sample.origin.items()]
        rows.append(["captions cut at 77 tokens", f"{sample.report.long_captions:,}"])
        rows.append(["labels spelled otherwise", f"{sample.report.relabelled:,}"])
    return Table("Sample", ["setting", "value"], rows, names=2)


def _settings(config: SampleConfig) -> list[list[str]]:
    """Every setting; rules and options of the source each in a row of their own."""
    plain = [[_words(n), _shown(v)] for n, v in config if n not in ("cleaning", "options", "fingerprint")]
    rules = [
        [f"cleaning: {_words(n)}", _shown(v)] for n, v in config.cleaning if v != CleaningRules.model_fields[n].default
    ]
    options = [[f"source: {_words(name)}", _shown(value)] for name, value in config.options.items()]
    return plain + rules + options + ([["state of its files", config.fingerprint]] if config.fingerprint else [])


def changed_settings(config: RunConfig) -> list[tuple[str, str, str]]:
    """Setting, value and default of what is not the default; seed always."""
    default = RunConfig(mode=config.mode)
    return [
        (_words(name), _shown(value), _shown(getattr(default, name)))
        for name, value in config
        if name != "mode" and (name == "seed" or value != getattr(default, name))
    ]


def runs_table(findings: Findings) -> Table:
    """How each run went."""
    rows = []
    for name, config in findings.comparison.runs.items():
        title = next(_title(findings, m.predictions) for m in findings.models if m.run == name)
        run, result = findings.runs.get(name), findings.results.get(name)
        own_name = run.name if run and run.name != name else ""
        settings = "; ".join(f"{setting} {value} (default {was})" for setting, value, was in changed_settings(config))
        row = [title, f"{name} {own_name}".strip(), settings]
        if result:
            best = percent(result.best_validation_top1)
            row += [f"{result.device}, {result.precision}", f"{result.best_epoch} of {result.epochs_done}", best]
            row += [f"{result.steps:,}", f"{result.seconds:,.0f}"]
        else:
            row += ["deleted since" if run is None else NONE, *[NONE] * 4]
        rows.append(row)
    head = ["model", "run", "settings that are not the default", "device", "best epoch", "its validation top-1"]
    return Table("Runs", [*head, "steps", "seconds"], rows, names=4)


def settings_table(findings: Findings) -> Table:
    """Every setting of every run."""
    runs = findings.comparison.runs
    rows = [[_words(name), *(_shown(getattr(run, name)) for run in runs.values())] for name in RunConfig.model_fields]
    return Table("All settings of all runs", ["setting", *runs], rows, names=1 + len(runs))


def models_table(findings: Findings) -> Table:
    """What each model is."""
    rows = [
        [_title(findings, m.predictions), m.predictions, m.base, m.run or NONE, m.template] for m in findings.models
    ]
    return Table("Models", ["model", "evaluation", "base", "run", "sentence for a class"], rows, names=5)


def _title(findings: Findings, model: str) -> str:
    return unbroken(findings.looks[model].signed, 1)


def unbroken(text: str, spaces: int = -1) -> str:
    """The text with its first spaces such that no line ends there."""
    return text.replace(" ", "\u00a0", spaces)


def _interval(found: Estimate | None) -> str:
    if found is None:
        return NONE
    return f"{unbroken(percent(found.value))} {unbroken(f'({100 * found.low:.1f} to {100 * found.high:.1f})')}"


def _points(fraction: float, sign: bool = False) -> str:
    if math.isnan(fraction):
        return NONE
    rounded = round(100 * fraction, 1) + 0.0
    return f"{rounded:+.1f}" if sign else f"{rounded:.1f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def _shown(value: object) -> str:
    if isinstance(value, Record):
        return value.model_dump_json()
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or NONE
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or NONE
    return str(value) if value != "" else NONE
