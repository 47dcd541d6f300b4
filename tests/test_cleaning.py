import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import cleaning
from clipdemo.cleaning import Vocabulary, clean
from clipdemo.sources.bodyparts import BODY_PARTS, SYNONYMS

VOCABULARY = Vocabulary(BODY_PARTS, SYNONYMS)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Chest", "Chest"),
        ("  chest. ", "Chest"),
        ("LOWER-LIMB", "Lower limb"),
        ("lower_limbs", "Lower limb"),
        ("Eyes", "Eye"),
        ("Gastrointestinal  Tract", "Gastrointestinal tract"),
        ("thorax", "Chest"),
    ],
)
def test_spellings_of_a_class_become_that_class(text, label):
    assert VOCABULARY.judge(text) == (label, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", cleaning.NO_LABEL),
        (" \t", cleaning.NO_LABEL),
        ("Others", cleaning.OTHERS_LABEL),
        ("Chest, Abdomen", cleaning.SEVERAL_LABELS),
        ("Brain and Eye", cleaning.SEVERAL_LABELS),
        ("Chest/Abdomen", cleaning.SEVERAL_LABELS),
        ("The image shows the chest of a patient.", cleaning.SENTENCE_LABEL),
        ("胸部", cleaning.UNKNOWN_LABEL),
        ("N/A", cleaning.UNKNOWN_LABEL),
    ],
)
def test_values_that_are_no_label_are_named(text, reason):
    assert VOCABULARY.judge(text) == (None, reason)


def table(*rows):
    return pd.DataFrame(rows, columns=["label", "caption"], dtype="str").assign(id="x", modality="", group="")


def test_every_row_is_kept_or_counted_once():
    rows = table(
        ("Chest", "A radiograph"), ("chest", "Another one"), ("", ""), ("Eye", "N/A"), ("Eye", "  "), ("Foot", "A foot")
    )
    result = clean(rows, BODY_PARTS, SYNONYMS, exclude=["Foot"])
    assert result.rows["label"].tolist() == ["Chest", "Chest"]
    assert result.relabelled == 1
    assert {d.reason: d.count for d in result.dropped} == {
        cleaning.NO_LABEL: 1,  # its caption is empty too: the first reason counts
        cleaning.PLACEHOLDER_CAPTION: 1,
        cleaning.NO_CAPTION: 1,
        cleaning.EXCLUDED_LABEL: 1,
    }


def test_examples_show_what_was_found():
    result = clean(table(("Chest & Eye", "x y"), ("Brain, Eye", "x y")), BODY_PARTS, SYNONYMS)
    assert result.dropped[0].examples == ["Chest & Eye", "Brain, Eye"]


@pytest.mark.parametrize(
    "caption", ["Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.", "n/a", "[caption]", "Figure legend", "Figure 3"]
)
def test_placeholders_are_found_and_captions_left_alone(caption):
    kept = len(clean(table(("Chest", caption)), BODY_PARTS, SYNONYMS).rows)
    assert kept == (caption == "Figure 3")
    assert len(clean(table(("Chest", f"{caption} shows the left lung")), BODY_PARTS, SYNONYMS).rows) == (
        not caption.startswith("Replace")
    )


texts = st.text(max_size=30) | st.sampled_from([*BODY_PARTS, *SYNONYMS, "Others", "Chest, Eye"])


@given(st.lists(st.tuples(texts, texts), max_size=30))
def test_counts_add_up_for_any_text(rows):
    result = clean(table(*rows), BODY_PARTS, SYNONYMS)
    assert len(result.rows) + sum(d.count for d in result.dropped) == len(rows)
    assert set(result.rows["label"]) <= set(BODY_PARTS)
    assert sum(result.classes.values()) == len(result.rows)
