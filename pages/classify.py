"""Classify: any picture, what all models say to it, and where they looked."""

import streamlit as st

from clipdemo.appearance import NOT_FOR_DIAGNOSIS
from clipdemo.ui import classify, state, widgets

LEAD = (
    "Drop any picture: what do the models say before and after fine-tuning, how sure are they, and where did they look?"
)

with widgets.page("Classify", LEAD):
    workspace = state.workspace()
    st.caption(f":material/info: {NOT_FOR_DIAGNOSIS}")
    classifier = classify.choose_classifier(workspace)
    key, given = classify.pictures_given(workspace, classifier)
    if given:
        classify.show(classifier, classify.answered(classifier, key, given), given)
