"""Choosing where a sample comes from: the source, what it needs, what a look at it found, and the two buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pandas as pd
import streamlit as st

from clipdemo import commands
from clipdemo.errors import ClipDemoError
from clipdemo.records import SPLITS, CleaningRules, SampleConfig
from clipdemo.sampling import sample_id
from clipdemo.sources import SOURCES, open_source, resolved
from clipdemo.sources.settings import NO_COLUMN, HubOptions, PhantomOptions, PubMedVisionOptions
from clipdemo.survey import Survey, load_survey
from clipdemo.ui import acts, live, roles, state, tables, widgets
from clipdemo.workspace import Workspace

_DEFAULTS = SampleConfig()
_RULES = CleaningRules()
Options = dict[str, object]

TITLES = {
    "phantom": "Built in",
    "pubmedvision": "PubMedVision",
    "folder": "Folder or archive",
    "table": "Table",
    "hub": "Hugging Face Hub",
}
_UPLOADED, _ON_MACHINE, _FROM_HUB = "Upload", "On this machine", "From the Hub"
_NEED_FILES = ("folder", "table")
_WHAT_TO_SEND = {
    "folder": "A ZIP or tar archive, or pictures (with a metadata.csv, if there is one)",
    "table": "A table with the pictures in it (Parquet), or a table and its pictures",
    "pubmedvision": "",
}

# The phantom source's rates: title, what it does, and the highest that makes sense.
_RATES = {
    "bad_labels": (
        "Labels that are none",
        "Empty, sentences, several labels, other languages: they are left out.",
        0.5,
    ),
    "wrong_labels": ("Wrong labels", "Labels of another class: nobody can see it, and they stay in.", 0.5),
    "label_variants": ("Other spellings", "Right labels in other words: cleaning finds their class.", 0.9),
    "placeholders": ("Placeholder captions", "Captions that say nothing, such as “figure legend”.", 0.5),
    "same_case": ("Same case", "Another picture of an earlier patient: never in two splits.", 0.5),
    "duplicates": ("Exact duplicates", "The same picture again.", 0.2),
    "near_duplicates": ("Near-duplicates", "The same picture, slightly changed.", 0.2),
}


def new_sample(workspace: Workspace, expanded: bool) -> None:
    """All settings of a new sample. What cannot work is said before anything starts."""
    if roles.says_why_not("draw"):
        return
    panel = st.expander("Draw a new sample", icon=":material/add_photo_alternate:", expanded=expanded)
    with panel:
        source = st.segmented_control(
            "Source", list(SOURCES), default="phantom", required=True, format_func=lambda name: TITLES.get(name, name)
        )
        st.caption(SOURCES[source].about)
        place = _place(workspace, source)
        with st.form("draw", border=False):
            options = place | _OPTIONS.get(source, _no_options)(place)
            with st.grid(3, min_column_width=200, gap="small"):
                samples = st.number_input(
                    "Pictures", 12, 1_000_000, _DEFAULTS.samples, step=256,
                    help="The paper: 4,096. Where there are fewer, all are taken.",
                )  # fmt: skip
                seed = st.number_input("Seed", 0, 2**32 - 1, 0, help="The same settings give the same sample anywhere.")
            with st.expander("Splits and cleaning", icon=":material/cleaning_services:"):
                fractions, rules = _splits(), _rules()
            with st.container(horizontal=True):
                missing = source in _NEED_FILES and not place
                draw = st.form_submit_button(
                    "Draw the sample", type="primary", icon=":material/brush:", disabled=missing,
                    help="Send files or write a path first." if missing else None,
                )  # fmt: skip
                look = st.form_submit_button(
                    "Look first", icon=":material/visibility:", disabled=missing,
                    help="Shows the columns, the classes and what a sample would cost.",
                )  # fmt: skip
        with widgets.guarded():
            config = _config(source=source, samples=samples, seed=seed, options=options, **rules, **fractions)
            if draw or look:
                _launch(workspace, resolved(config), "sample" if draw else "look")
            elif found := _found(workspace, config):
                _show(found, samples)


def _config(exclude: str, synonyms: str, cleaning: Options, **settings: object) -> SampleConfig:
    rules = CleaningRules(exclude=_lines(exclude), synonyms=_lines(synonyms), **cleaning)
    return SampleConfig(cleaning=rules, **settings)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _launch(workspace: Workspace, config: SampleConfig, command: str) -> None:
    open_source(config, workspace.source_cache)  # complains about options now rather than in the job
    if command == "sample" and (name := sample_id(config)) in workspace.names("samples"):
        state.choose_next("sample", name)
        state.notice("This sample had been drawn already: here it is.")
        st.rerun()
    live.launch(workspace, command, commands.sample_arguments(config), {"sample": config.model_dump(mode="json")})


def _found(workspace: Workspace, config: SampleConfig) -> Survey | None:
    """What a look at this source found, if there was one. A path that is not there is said when a button is pressed."""
    try:
        return load_survey(resolved(config), workspace)
    except ClipDemoError:
        return None


# ---- what each source needs


def _place(workspace: Workspace, source: str) -> Options:
    """Where the files are: sent through the page, or on this machine. {} for sources that need none."""
    if source not in _WHAT_TO_SEND:
        return {}
    ways = [_FROM_HUB, _ON_MACHINE] if source == "pubmedvision" else [_UPLOADED, _ON_MACHINE]
    way = st.segmented_control("Where it is", ways, default=ways[0], required=True, key=f"way {source}")
    if way == _ON_MACHINE:
        path = st.text_input("Path", key=f"path {source}", placeholder="/home/me/pictures or ~/pictures.zip")
        return {"path": path.strip()} if path.strip() else {}
    if way == _FROM_HUB:
        return {}
    folder = st.toggle("A whole folder", key=f"folder {source}", help="Its class folders stay class folders.")
    files = st.file_uploader(
        _WHAT_TO_SEND[source],
        accept_multiple_files="directory" if folder else True,
        key=f"files {source} {folder}",
        max_upload_size=state.MAX_UPLOAD_MEGABYTES,
    )
    with widgets.guarded():
        return _sent(workspace, source, files) if files else {}
    return {}


def _sent(workspace: Workspace, source: str, files: list) -> Options:
    path = acts.keep_upload([(file.name, file) for file in files], workspace)
    if source != "table" or path.is_file():
        return {"path": str(path)}
    names = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".csv", ".tsv", ".json", ".jsonl", ".parquet"))
    if len(names) != 1:
        st.warning(f"Among the files are {len(names)} tables: send exactly one, with its pictures.")
        return {}
    return {"path": str(names[0]), "images": str(path)}


def _no_options(place: Options) -> Options:
    return {}


def _phantom(place: Options) -> Options:
    """The options that differ from the source's defaults."""
    default = PhantomOptions()
    panel = st.expander("Settings of the built-in source", icon=":material/tune:")
    with panel, st.grid(3, min_column_width=200, gap="small"):
        chosen = {"rows": st.number_input("Rows of the source", 100, 1_000_000, default.rows, step=1000)}
        for name, (title, explanation, most) in _RATES.items():
            chosen[name] = st.slider(
                title, 0.0, most, getattr(default, name), step=0.01, format="percent", help=explanation
            )
    return {name: value for name, value in chosen.items() if value != getattr(default, name)}


def _pubmedvision(place: Options) -> Options:
    fields = PubMedVisionOptions.model_fields
    with st.grid(3, min_column_width=200, gap="small"):
        chosen: Options = {
            "caption": st.selectbox(
                "Caption", get_args(fields["caption"].annotation), help=fields["caption"].description,
                format_func={"original": "the authors’ own", "gpt4v": "GPT-4V’s description"}.get,
            ),
            "config": st.selectbox(
                "List of rows", get_args(fields["config"].annotation),
                help="For GPT-4V’s descriptions: those made for alignment, or for instructions.",
            ),
            "several": st.selectbox(
                "Rows with several pictures", get_args(fields["several"].annotation),
                format_func={"first": "take the first", "drop": "leave them out"}.get,
            ),
        }  # fmt: skip
        chosen["others"] = st.toggle("“Others” is a class", help=fields["others"].description)
    if not place:
        st.caption(
            ":material/cloud_download: The list of rows is fetched once (about 0.4 GB) and the archives’ directories "
            "with it; then only the pictures of the sample, about 60 kB each, never the 57 GB. “Look first” says it."
        )
    return chosen


def _columns(place: Options) -> Options:
    """Which column is what: guessed, unless chosen. After a look the columns can be picked."""
    known = state.known_columns(str(place.get("path", place.get("dataset", ""))))
    with st.grid(4, min_column_width=160, gap="small"):
        chosen = {
            f"{use}_column": st.selectbox(
                f"{use.capitalize()} column", ["", *known, NO_COLUMN], accept_new_options=True, key=f"column {use}",
                format_func=lambda name: name or "guess", help=help_,
            )
            for use, help_ in {
                "image": "Holds the pictures: paths, or their bytes in Parquet.",
                "caption": "Holds the captions; none: do not use any.",
                "label": "Holds the labels; none: do not use any.",
                "group": "What belongs together (patient, case, article) and is never divided; or none.",
            }.items()
        }  # fmt: skip
    return {name: value for name, value in chosen.items() if value}


def _folder(place: Options) -> Options:
    level = st.number_input(
        "Which folder above a picture names its class", 0, 9, 1,
        help="1: its own folder. 2: the folder above, and its own one is a patient. 0: folders say nothing.",
    )  # fmt: skip
    with st.expander("Columns of its metadata file", icon=":material/view_column:"):
        return _columns(place) | ({"label_level": level} if level != 1 else {})


def _hub(place: Options) -> Options:
    default = HubOptions()
    with st.grid(3, min_column_width=200, gap="small"):
        chosen: Options = {
            "dataset": st.text_input("Dataset", placeholder="OWNER/NAME").strip(),
            "config": st.text_input("Configuration", placeholder="where it has several").strip(),
            "split": st.text_input("Split", default.split).strip(),
            "rows": st.number_input("Rows that are read", 16, 1_000_000, default.rows, step=1000),
            "buffer": st.number_input("Shuffled among", 1, 100_000, default.buffer, step=100),
        }
    with st.expander("Columns", icon=":material/view_column:"):
        return chosen | _columns(chosen)


_OPTIONS: dict[str, Callable[[Options], Options]] = {
    "phantom": _phantom,
    "pubmedvision": _pubmedvision,
    "folder": _folder,
    "table": _columns,
    "hub": _hub,
}


def _splits() -> Options:
    with st.grid(3, min_column_width=200, gap="small"):
        return {
            split: st.number_input(
                f"{split.capitalize()} fraction", 0.0, 1.0, getattr(_DEFAULTS, split), step=0.05, format="%.2f"
            )
            for split in SPLITS
        }


def _rules() -> Options:
    """Cleaning rules: `cleaning` holds the chosen ones, `exclude` and `synonyms` the lines as they were typed."""
    titles = {
        "texts": ("Each picture needs", {"auto": "what the source has"}),
        "rare": ("Classes that are too small", {"drop": "leave them out", "merge": "merge them into “rare”"}),
        "foreign": ("Captions not in English", {"keep": "keep", "drop": "leave out"}),
        "repeats": ("Repeated pictures", {"remove": "remove", "one-side": "keep on one side", "keep": "keep (leaks)"}),
    }
    chosen: Options = {}
    with st.grid(3, min_column_width=200, gap="small"):
        for name, (title, words) in titles.items():
            field = CleaningRules.model_fields[name]
            chosen[name] = st.selectbox(
                title, get_args(field.annotation), help=field.description, format_func=lambda v, w=words: w.get(v, v)
            )
        chosen["smallest_class"] = st.number_input(
            "Pictures that a class needs", 3, 1_000_000, _RULES.smallest_class, help="Smaller classes are too small."
        )
    with st.grid(2, min_column_width=280, gap="small"):
        exclude = st.text_area("Classes to leave out", placeholder="one a line", height=90)
        synonyms = st.text_area(
            "Wordings of a class", placeholder="pelvis=Pelvic cavity, one a line", height=90,
            help="WORDING=CLASS; a value that was taken for no label can become a class of its own this way.",
        )  # fmt: skip
    return {"cleaning": chosen, "exclude": exclude, "synonyms": synonyms}


# ---- what a look found


def _show(found: Survey, samples: int) -> None:
    """The findings of a look, and what the sample would cost."""
    state.remember_columns(str(found.config.options.get("path", found.config.options.get("dataset", ""))), found)
    report = found.report
    seconds, to_fetch = found.cost(samples)
    n = min(samples, report.kept)
    with st.container(border=True):
        st.markdown("**What is in it**")
        with st.grid(4, min_column_width=140, gap="small"):
            st.metric("Rows", f"{report.rows:,}")
            st.metric("Usable rows", f"{report.kept:,}")
            st.metric("Classes", f"{len(report.source_classes):,}" if report.source_classes else "–")
            st.metric(f"Time for {n:,}", f"≈ {widgets.clock(seconds)}")
        if to_fetch:
            st.markdown(f":material/cloud_download: {n:,} pictures move about {to_fetch / 1e6:,.0f} MB.")
        st.markdown(possible(found.texts))
        if found.columns:
            taken = " · ".join(f"{use}: **{widgets.plain(name)}**" for use, name in found.columns.items())
            others = [name for name in found.available_columns if name not in found.columns.values()]
            rest = f" · not used: {widgets.plain(', '.join(others))}" if others else ""
            st.markdown(f":material/view_column: {taken}{rest}")
        if found.readable < found.tried:
            st.warning(f"Only {found.readable} of {found.tried} pictures that were tried could be read.")
        lines = [(f"left out: {d.reason}", d.count, " · ".join(d.examples)) for d in report.dropped]
        lines += [(f"class {label}", count, _wordings(report, label)) for label, count in report.source_classes.items()]
        frame = pd.DataFrame(lines, columns=["What", "Rows", "For example"])
        st.dataframe(
            frame, hide_index=True, height="content" if len(frame) < 10 else 380, column_config=tables.REPORT_COLUMNS
        )
        if report.no_labels:
            few = ", ".join(f"{value} ({count:,})" for value, count in list(report.no_labels.items())[:12])
            st.caption(f"Values that are no label: {widgets.plain(few)}")


def _wordings(report: object, label: str) -> str:
    return " · ".join(list(report.wordings.get(label, {}))[:4])


def possible(texts: tuple[str, ...]) -> str:
    """Which of the two fine-tunings can be done with these texts, and why."""
    if len(texts) == 2:
        return ":material/check_circle: Captions and labels: both fine-tunings are possible."
    if texts == ("labels",):
        return (
            ":material/info: **Labels, no captions**: fine-tuning on labels is possible; on captions it is not, for "
            "there is nothing to pair the pictures with."
        )
    return (
        ":material/info: **Captions, no labels**: fine-tuning on captions is possible; on labels it is not. Models are "
        "measured by retrieval: does a picture find its own caption among all of the test’s, and the other way round?"
    )
