"""The parts of the Compare page."""

from __future__ import annotations

import streamlit as st

from clipdemo import charts, commands
from clipdemo.records import Comparison
from clipdemo.ui import home, state, tables
from clipdemo.workspace import Workspace


def headline(comparison: Comparison) -> None:
    """The result in large type."""
    home.model_cards(comparison)


def beside_the_paper(comparison: Comparison) -> None:
    """The paper's table with one's own numbers, and the paper's own beside it, marked as quoted."""
    sizes = comparison.sizes
    if not has_labels(comparison):
        return
    with st.grid(2, min_column_width=400, gap="medium") as grid:
        with grid.cell():
            st.subheader("Yours", anchor=False)
            st.table(tables.comparison_table(comparison), border="horizontal", hide_index=True)
            st.caption(
                f"{comparison.sample_config.source}, {sum(sizes.values()):,} pictures: {sizes['train']:,} train, "
                f"{sizes['validation']:,} validation, {sizes['test']:,} test · seed {comparison.sample_config.seed}"
            )
        with grid.cell():
            st.subheader(":material/format_quote: The paper’s", anchor=False)
            st.table(tables.paper_table(), border="horizontal", hide_index=True)
            st.caption(
                "Quoted from Table 1 of the paper, not measured here: other data (4,096 entries of PubMedVision) and "
                "another model (ViT-B/32), so compare the pattern, not the numbers."
            )


def has_labels(comparison: Comparison) -> bool:
    """Whether there are classes to be right or wrong about."""
    return all(model.top1 is not None for model in comparison.models)


def pictures_and_captions(comparison: Comparison) -> None:
    """Recall between the test pictures and their captions, where there are captions."""
    table = tables.retrieval_table(comparison)
    if table.empty:
        return
    st.subheader("Pictures and their captions", anchor=False)
    st.table(table, border="horizontal", hide_index=True)
    texts = comparison.models[0].retrieval.n_texts
    chance = comparison.models[0].retrieval.n
    st.caption(
        f"Each picture looks for its own caption among all {texts:,} of the test split, and each caption for its "
        f"picture. Guessing finds one in {chance:,}. The numbers fall with the size of the test split, so compare them "
        "within one sample only."
    )


def class_by_class(comparison: Comparison) -> None:
    """Grouped bars a class, the most frequent first."""
    if not has_labels(comparison):
        return
    st.subheader("Class by class", anchor=False)
    st.plotly_chart(
        charts.per_class_bars(comparison),
        key="per_class",
        config={"displayModeBar": False},
        alt="Top-1 of each class for the three models",
    )
    st.caption("A class with a small n moves a lot by chance: one picture more or less is 100 / n points.")


def again(workspace: Workspace, comparison: Comparison) -> None:
    """The file that machines read, and the command that makes it again."""
    st.subheader("Do it again", anchor=False)
    st.code("\n".join(commands.redo_commands(comparison)), language="bash", wrap_lines=True)
    path = workspace.folder("comparisons", comparison.id) / "comparison.json"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download comparison.json", path.read_bytes(), "comparison.json", "application/json",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        st.page_link(
            state.PAGES["data"], label="Its pictures", icon=":material/photo_library:",
            query_params={"sample": comparison.sample},
        )  # fmt: skip
