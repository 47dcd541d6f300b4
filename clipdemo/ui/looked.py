"""Where the models looked: a heat map each, what covering parts of the picture shows, and maps of shuffled weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import streamlit as st
from PIL import Image

from clipdemo.classify import Classifier, Model, Result, embed_text
from clipdemo.drop import Dropped, Given, read_drop
from clipdemo.errors import PictureError
from clipdemo.progress import finish
from clipdemo.ui import state, tables, widgets

_OTHER = "Other words"
_MOST_KEPT = 24  # maps of a session
_MOST_CHARACTERS = 200  # of the words to look for
_METHODS = {"gradient": "by gradient", "occlusion": "by covering", "sanity": "with shuffled weights"}
_HELP = {
    "gradient": "Integrated gradients (Sundararajan et al. 2017) at the patches: what the score is made of.",
    "occlusion": "Parts of the picture are blurred one after another: slow, and true to the model by what it does.",
    "sanity": "The same map of a model whose weights were shuffled (Adebayo et al. 2018). Where it looks like the "
    "first, the first says little about what the model has learned.",
}


def draw(classifier: Classifier, result: Result, thumbnail: bytes, given: Sequence[Given]) -> None:
    """The switch, and then the heat maps of all models for a class or any words."""
    key = state.switched("looked", state.LOOKED)
    if not st.toggle("Where they looked", key=key, help="A heat map a model; some seconds for a large one."):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = result.answers[0].labels[0].label if result.answers[0].labels else None
        options = [*classifier.classes, _OTHER]
        # another picture, or other labels, start at what the first model says to it
        key = state.one_of("of", options, first if first in options else None, key=f"looked for {result.name} {first}")
        of = st.selectbox("For", options, width=220, key=key)
        words = _words() if of == _OTHER else ""
        key = state.one_of("map", list(_METHODS))
        method = st.segmented_control("Map", list(_METHODS), required=True, format_func=_METHODS.get, key=key)
        strength = st.slider("Strength", 0.0, 1.0, 0.7, 0.05, width=180)
    if of == _OTHER and not words.strip():
        st.info("Write some words to look for.", icon=":material/edit:")
        return
    picture = cache(lambda: _picture(result.name, given, classifier.sizes))  # read again for a new map only
    image = Image.open(io.BytesIO(thumbnail)).convert("RGB")
    with st.grid(len(classifier.models), min_column_width=230, gap="small") as grid:
        for model in classifier.models:
            with grid.cell():
                st.markdown(f"**{tables.signed(model.look)}**")
                with widgets.guarded():
                    kept = _kept(classifier, model, (result.name, hash(thumbnail)), picture, of, words, method)
                    _one(model, image, kept, strength)
    st.caption(f"{_HELP[method]} Outside the square that the models are shown, the picture is dimmed. A map says what "
               "the score rests on, not that the answer is right.")  # fmt: skip


def _words() -> str:
    key = state.text("words", _MOST_CHARACTERS)
    return st.text_input("Words", max_chars=_MOST_CHARACTERS, placeholder="such as: a bright spot", key=key)


def _one(model: Model, image: Image.Image, kept: tuple[np.ndarray, str], strength: float) -> None:
    from clipdemo.saliency import overlaid

    heat, said = kept
    st.image(overlaid(image, heat, strength), width="stretch", alt=f"where {model.look.title} looked")
    if said:
        st.caption(said)


def _kept(
    classifier: Classifier,
    model: Model,
    name: tuple[str, int],
    picture: Callable[[], Dropped],
    of: str,
    words: str,
    method: str,
) -> tuple[np.ndarray, str]:
    """A model's map and the line about it, made once for this session."""
    key = (*name, model.id, classifier.classes, model.template, of, words, method)
    kept = st.session_state.setdefault(state.HEAT, {})
    if key not in kept:
        while len(kept) >= _MOST_KEPT:
            kept.pop(next(iter(kept)))
        with st.spinner("Looking…"):
            kept[key] = _map(classifier, model, picture().pixels[model.clip.image_size], of, words, method)
    return kept[key]


def _map(
    classifier: Classifier, model: Model, pixels: np.ndarray, of: str, words: str, method: str
) -> tuple[np.ndarray, str]:
    """float32 (size, size) in [0, 1], and a line about it."""
    from clipdemo.saliency import heat_map, occlusion_map, sanity

    if words.strip():
        text, against = embed_text(model, words), None
    else:
        vectors, place = model.class_vectors(classifier.classes), classifier.classes.index(of)
        text, against = vectors[place], np.delete(vectors, place, axis=0) if len(vectors) > 1 else None
    if method == "occlusion":
        return finish(occlusion_map(model.clip, pixels, text, against)), ""
    if method == "sanity":
        found = finish(sanity(model.clip, pixels, text, against))
        return found.shuffled, f"Rank correlation with the real map: {found.correlation:.2f} (1: the same, 0: none)."
    return heat_map(model.clip, pixels, text, against), ""


def _picture(name: str, given: Sequence[Given], sizes: Sequence[int]) -> Dropped:
    """The picture of that name, read once more from what was given. Raises `PictureError` where it is gone."""
    try:
        found = (one for one in read_drop(given, sizes) if isinstance(one, Dropped) and one.name == name)
        return next(found)
    except (StopIteration, ValueError, OSError):
        raise PictureError("the picture is not there any more: drop it again") from None
