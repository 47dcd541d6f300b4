import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import cleaning
from clipdemo.cleaning import Vocabulary, clean
from clipdemo.errors import SampleError
from clipdemo.records import CleaningRules
from clipdemo.sources.bodyparts import BODY_PARTS, SYNONYMS

VOCABULARY = Vocabulary(BODY_PARTS, SYNONYMS)
LAX = CleaningRules(texts="both", smallest_class=1)


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
        ("N/A", cleaning.SAYS_NONE_LABEL),
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
    result = clean(rows, BODY_PARTS, SYNONYMS, CleaningRules(exclude=("Foot",), smallest_class=1))
    assert result.rows["label"].tolist() == ["Chest", "Chest"]
    assert result.relabelled == 1
    assert {d.reason: d.count for d in result.dropped} == {
        cleaning.NO_LABEL: 1,  # its caption is empty too: the first reason counts
        cleaning.PLACEHOLDER_CAPTION: 1,
        cleaning.NO_CAPTION: 1,
        cleaning.EXCLUDED_LABEL: 1,
    }


def test_examples_show_what_was_found():
    result = clean(table(("Chest & Eye", "x y"), ("Brain, Eye", "x y")), BODY_PARTS, SYNONYMS, LAX)
    assert result.dropped[0].examples == ["Chest & Eye", "Brain, Eye"]


@pytest.mark.parametrize(
    "caption", ["Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.", "n/a", "[caption]", "Figure legend", "Figure 3"]
)
def test_placeholders_are_found_and_captions_left_alone(caption):
    kept = len(clean(table(("Chest", caption)), BODY_PARTS, SYNONYMS, LAX).rows)
    assert kept == (caption == "Figure 3")
    assert len(clean(table(("Chest", f"{caption} shows the left lung")), BODY_PARTS, SYNONYMS, LAX).rows) == (
        not caption.startswith("Replace")
    )


texts = st.text(max_size=30) | st.sampled_from([*BODY_PARTS, *SYNONYMS, "Others", "Chest, Eye"])


@given(st.lists(st.tuples(texts, texts), max_size=30))
def test_counts_add_up_for_any_text(rows):
    rules = CleaningRules(texts="both", smallest_class=1)
    if not (any(a.strip() for a, _ in rows) and any(b.strip() for _, b in rows)):
        with pytest.raises(SampleError, match="the source has no"):
            clean(table(*rows), BODY_PARTS, SYNONYMS, rules)
        return
    result = clean(table(*rows), BODY_PARTS, SYNONYMS, rules)
    assert len(result.rows) + sum(d.count for d in result.dropped) == len(rows)
    assert set(result.rows["label"]) <= set(BODY_PARTS)
    assert sum(result.classes.values()) == len(result.rows)


# ---- labels of nobody's list


def learned(**counts):
    return Vocabulary.learned({name.replace("_", " "): n for name, n in counts.items()}, {})


def test_every_label_is_a_class_in_its_most_frequent_spelling():
    vocabulary = learned(Chest_CT=3, chest_ct=5, CHEST_CTS=1)
    assert {vocabulary.judge(text) for text in ("Chest CT", "chest-ct", "CHEST_CTs")} == {("chest ct", "")}


def test_a_plural_is_the_class_of_its_singular_but_only_where_there_is_one():
    vocabulary = learned(cats=9, cat=2, abscess=4)
    assert vocabulary.judge("Cat") == vocabulary.judge("cats") == ("cats", "")
    assert vocabulary.judge("abscess") == ("abscess", "")
    assert vocabulary.judge("absces") == (None, cleaning.UNKNOWN_LABEL)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("n/a", cleaning.SAYS_NONE_LABEL),
        ("Unknown", cleaning.SAYS_NONE_LABEL),
        ("?", cleaning.SAYS_NONE_LABEL),
        ("...", cleaning.SAYS_NONE_LABEL),
        ("other", cleaning.OTHERS_LABEL),
        ("cat, dog", cleaning.SEVERAL_LABELS),
        ("the picture shows what may well be a cat or some such", cleaning.SENTENCE_LABEL),
    ],
)
def test_values_that_are_no_label_are_found_by_rule(text, reason):
    assert Vocabulary.learned({"cat": 3, "dog": 2, text: 5}, {}).judge(text) == (None, reason)


def test_a_value_can_be_taken_back_as_a_class_of_its_own_or_of_another():
    rows = table(*[("cat", "x y")] * 3, *[("other", "x y")] * 3, *[("feline", "x y")] * 3)
    before = clean(rows, None, {})
    assert before.no_labels == {"other": 3} and set(before.classes) == {"cat", "feline"}
    rules = CleaningRules(synonyms={"Other": "something else", "feline": "cat"})
    after = clean(rows, None, {}, rules)
    assert after.classes == {"cat": 6, "something else": 3}
    assert after.wordings == {"something else": {"other": 3}, "cat": {"feline": 3}}
    assert after.no_labels == {} and after.dropped == []


def test_a_known_list_of_classes_can_be_added_to():
    rows = table(*[("Chest", "x y")] * 3, *[("skin", "x y")] * 3)
    assert clean(rows, BODY_PARTS, SYNONYMS, CleaningRules(synonyms={"skin": "Skin"})).classes == {
        "Chest": 3,
        "Skin": 3,
    }


def test_a_row_with_a_problem_is_dropped_for_it_whatever_its_texts_say():
    rows = table(*[("cat", "x y")] * 4, ("", "")).assign(problem=["", "", "", "row is damaged", "row is damaged"])
    result = clean(rows, None, {})
    assert [(d.reason, d.count) for d in result.dropped] == [("row is damaged", 2)]
    assert len(result.dropped[0].examples) == 1  # the table of this test has one id


@pytest.mark.parametrize("texts", ["both", "captions"])
def test_texts_that_are_asked_for_and_not_there_are_named(texts):
    with pytest.raises(SampleError, match="the source has no captions: choose auto"):
        clean(table(("cat", ""), ("dog", " ")), None, {}, CleaningRules(texts=texts))


def test_a_source_without_any_text_says_why():
    rows = table(("", ""), ("", "")).assign(problem="row is damaged")
    with pytest.raises(SampleError, match="most often: row is damaged"):
        clean(rows, None, {})


@given(st.dictionaries(st.text(max_size=20), st.integers(1, 9), max_size=20))
def test_a_learned_vocabulary_gives_each_label_a_class_or_a_reason(counts):
    vocabulary = Vocabulary.learned(counts, {})
    for text in counts:
        label, reason = vocabulary.judge(text)
        assert bool(label) != bool(reason)


@pytest.mark.parametrize(
    ("caption", "foreign"),
    [
        ("Axial CT of the chest with a nodule in the right upper lobe", False),
        ("Radiographie du thorax montrant une opacité du lobe supérieur droit chez un patient", True),
        ("胸部CT显示右上叶结节", True),
        ("Рентгенограмма", True),
        ("α-synuclein in the substantia nigra", False),
        ("T2w", False),
        ("", False),
        ("CT 1/2", False),
    ],
)
def test_captions_that_are_not_english_are_found(caption, foreign):
    assert cleaning.is_foreign(caption) == foreign
