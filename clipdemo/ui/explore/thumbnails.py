"""Pictures of a sample in rows, small."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from clipdemo.errors import ClipDemoError
from clipdemo.neighbours import NearPicture
from clipdemo.sampling import Sample
from clipdemo.ui import tables, widgets
from clipdemo.ui.explore.views import View

PICTURES = 8  # shown a model


def rows_of_pictures(sample: Sample, views: Sequence[View], found: Sequence[Sequence[NearPicture]]) -> None:
    """A row of near pictures a model, with their scores."""
    for view, pictures in zip(views, found, strict=True):
        st.markdown(f"**{tables.signed(view.look)}**")
        with st.grid(PICTURES, min_column_width=110, gap="xsmall") as grid:
            for near in pictures:
                with grid.cell(), st.container(gap="xxsmall"):
                    what = widgets.plain(near.label or near.split)
                    thumbnail(sample, near.image, f"{near.score:.2f} · {what}", f"{near.label}: {near.caption}")


def thumbnail(sample: Sample, image: str, line: str, alt: str) -> None:
    """A picture and the Markdown line under it; a sign where its file is gone."""
    try:
        st.image(sample.picture(image), width="stretch", alt=alt)
    except (ClipDemoError, OSError):
        st.caption(":material/hide_image:")
    st.caption(line)
