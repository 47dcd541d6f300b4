"""The leaderboard: all models' numbers with their intervals, and in words what is no chance."""

from __future__ import annotations

import streamlit as st

from clipdemo import result_charts
from clipdemo.records import BUILT_IN_BASE
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run, readable_runs
from clipdemo.ui import cached, home, live, roles, tables, widgets
from clipdemo.ui.compare.shown import Shown
from clipdemo.workspace import Workspace

_MOST_CARDS = 3  # more models than that are a table


def draw(shown: Shown) -> None:
    """What was found in one line a model, the table with its intervals, and the paper's own beside it."""
    if len(shown.comparison.models) <= _MOST_CARDS:
        home.model_cards(shown.comparison)
    if not shown.n:
        st.info("All test pictures are left out, so there is nothing to count.", icon=":material/info:")
        return
    _in_words(shown)
    if shown.has_labels:
        _numbers(shown)
    _captions(shown)


def _in_words(shown: Shown) -> None:
    said = [(shown.looks[s.model], s.sentence) for s in shown.board.standings if s.sentence]
    for look, sentence in said:
        st.markdown(f":{tables.SIGN_COLOURS[look.kind]}[{look.sign}] **{widgets.plain(sentence)}.**")
    if said:
        more = f", adjusted for {len(said)} comparisons (Holm)" if len(said) > 1 else ""
        st.caption(
            f"Differences in top-1 on the same pictures, in percentage points with 95 % interval (Newcombe’s method "
            f"10); chance is told by McNemar’s exact test{more}."
        )


def _numbers(shown: Shown) -> None:
    """The table, its picture, seeds together, and the paper's table."""
    comparison, sizes = shown.comparison, shown.comparison.sizes
    st.subheader("All numbers", anchor=False)
    st.table(tables.board_table(shown.board, shown.looks), border="horizontal", hide_index=True)
    st.caption(
        f"{comparison.sample_config.source}, {sum(sizes.values()):,} pictures: {sizes['train']:,} train, "
        f"{sizes['validation']:,} validation, {sizes['test']:,} test · seed {comparison.sample_config.seed} · in grey: "
        "95 % intervals (Wilson; macro top-1, the mean over classes: stratified Wilson, Yan and Su 2010)"
    )
    if not (seeds := tables.seeds_table(shown.board)).empty:
        st.subheader("Over seeds", anchor=False)
        st.table(seeds, border="horizontal", hide_index=True)
        st.caption("In grey: 95 % t-interval of the mean. It says how much training varies, not other pictures.")
    with st.grid(2, min_column_width=400, gap="medium") as grid:
        with grid.cell():
            st.subheader("Top-1 with its 95 % interval", anchor=False)
            rows = [(shown.looks[s.model], s.top1.value, s.top1.low, s.top1.high) for s in shown.board.standings]
            st.echarts_chart(
                result_charts.interval_bars(rows), height=60 + 52 * len(rows), key="intervals",
                alt="Top-1 of each model with its 95 % interval",
            )  # fmt: skip
        with grid.cell():
            st.subheader(":material/format_quote: The paper’s", anchor=False)
            st.table(tables.paper_table(), border="horizontal", hide_index=True)
            st.caption(
                "Quoted from Table 1 of the paper, not measured here: other data (4,096 entries of PubMedVision) and "
                "another model (ViT-B/32), so compare the pattern, not the numbers."
            )


def _captions(shown: Shown) -> None:
    """Recall between the test pictures and their captions, where there are captions."""
    table = tables.retrieval_table(shown.board, shown.looks)
    if table.empty:
        return
    st.subheader("Pictures and their captions", anchor=False)
    st.table(table, border="horizontal", hide_index=True)
    texts = next(iter(shown.board.standings[0].picture_recall.values())).n
    st.caption(
        f"How often a picture finds its own caption among the {texts:,} different ones of the test pictures, and a "
        "caption one of its pictures. The more pictures, the harder: do not compare samples of other sizes. In grey: "
        "95 % intervals (Wilson)."
    )


# ---- a new comparison


def new_comparison(workspace: Workspace, names: list[str], expanded: bool) -> None:
    """Any number of runs and base models of one sample, chosen and measured as a job."""
    if roles.says_why_not("measure"):
        return
    with st.expander("A new comparison", icon=":material/add:", expanded=expanded):
        name = st.selectbox("Sample", names, key="compare_sample")
        sample = widgets.checked(lambda: cached.sample(workspace, name))
        if sample is None:
            return
        runs = {run.id: run for run in readable_runs(workspace) if run.sample == sample.id and run.result}
        chosen = st.multiselect(
            "Runs", list(runs), list(runs)[:2], key=f"runs {sample.id}",
            format_func=lambda name: _run_title(runs[name]),
            help="Models are compared on the same test pictures only, so these are the runs of this sample.",
        )  # fmt: skip
        text = st.text_input(
            "Base models", BUILT_IN_BASE,
            help="Divided by spaces: builtin, NAME:PRETRAINED of open_clip, hf-hub:ID or local-dir:PATH. What is not "
            "on this computer is fetched.",
        )  # fmt: skip
        bases = text.split()
        if st.button("Compare", type="primary", icon=":material/leaderboard:", disabled=not (chosen or bases)):
            _launch(workspace, sample, [runs[name] for name in chosen], bases)


def _run_title(run: Run) -> str:
    return f"{run.config.mode}, seed {run.config.seed} · {run.name}"


def _launch(workspace: Workspace, sample: Sample, runs: list[Run], bases: list[str]) -> None:
    arguments = ["--sample", sample.id]
    arguments += [part for run in runs for part in ("--run", run.id)]
    arguments += [part for base in bases for part in ("--base", base)]
    settings = {"sample_id": sample.id, "runs": [run.config.model_dump(mode="json") for run in runs], "bases": bases}
    live.launch(workspace, "compare", arguments, settings)
