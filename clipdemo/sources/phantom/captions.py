"""Captions as clinical articles have them, made by a small grammar, and the mess that real label fields hold.

`grammar` explains the rules; in their texts `§` is the case's side. `vocabulary` has the words, this file the
sentences.

How a caption names the body part is decided before it is written, so that the fractions hold for every part: by the
class's own name, by another word beside the examination, by an organ beside the finding, or not at all. Rules in
CAPITALS depend on that.
"""

from __future__ import annotations

import random
import re
from functools import cache
from itertools import permutations

from clipdemo.sources.phantom.catalogue import NORMAL, Case, View
from clipdemo.sources.phantom.grammar import Grammar, Rules, compiled, polished, written
from clipdemo.sources.phantom.vocabulary import FINDINGS, LOOKS, NAMED_FINDINGS, PARTS, STEMS, VIEWS

# How the body part is named -> the fraction of captions that do so.
NAMINGS: dict[str, float] = {"class": 0.175, "synonym": 0.29, "organ": 0.21, "nothing": 0.325}
LONG = 0.10  # fraction of captions that are whole legends, too long for CLIP's 77 tokens
NUMBERED = 0.08  # fraction that begin with "(A)", "Case 2." and the like
NO_FULL_STOP = 0.08


def _numbers(start: int, stop: int, step: int = 1) -> tuple[str, ...]:
    return tuple(str(n) for n in range(start, stop, step))


SHARED: Rules = {
    # Numbers
    "age": _numbers(19, 88),
    "young": _numbers(5, 17),
    "few": ("four", "five", "six", "seven"),
    "small": _numbers(4, 20),
    "big": _numbers(12, 62),
    "thin": _numbers(3, 9),
    "days": _numbers(3, 15),
    "weeks": ("two", "three", "four", "six", "eight", "ten"),
    "months": ("3", "6", "9", "12", "18", "24"),
    "years": ("five", "seven", "ten", "twelve", "15", "20"),
    "percent": _numbers(2, 40),
    "kilovolts": _numbers(60, 130, 5),
    "time": _numbers(50, 600, 25),
    "echo": _numbers(10, 120, 4),
    "gain": _numbers(40, 72, 2),
    "range": _numbers(50, 76, 5),
    "index": ("0.7", "0.9", "1.1", "1.3"),
    "millilitres": _numbers(150, 900, 50),
    "power": ("40", "100", "200", "400"),
    "bar": ("10", "20", "50", "100"),
    "field": ("30", "45", "50"),
    # People and their troubles
    "person": ("woman", "man", "woman", "man", "female patient", "male patient"),
    "child": ("boy", "girl"),
    "adult": ("a^ {age}-year-old {person}",),
    "patient": (*("{adult}",) * 7, "a^ {young}-year-old {child}"),
    "complaint": (
        "[fever|weight loss|fatigue|fatigue and weight loss|malaise|fever and malaise]",
        "[persistent|recurrent|worsening|progressive] [pain|symptoms|complaints]",
        "[acute|sudden] onset of symptoms",
        "symptoms of {weeks} weeks' duration",
    ),
    "fact": (
        "[known|suspected|treated] malignancy",
        "a^ [raised C-reactive protein level|family history of cancer|long history of smoking]",
        "a^ history of {history}",
    ),
    "history": ("hypertension", "type 2 diabetes mellitus", "heavy smoking", "previous surgery", "treated malignancy"),
    "opening": (
        "{patient} with {COMPLAINT}.",
        "{adult} with {fact}.",
        "{patient} [presenting|who presented] with {COMPLAINT}.",
        "[Findings|Imaging findings] in {patient} with {COMPLAINT}.",
    ),
    "control": ("of a control subject", "in a healthy volunteer", "used for comparison", "from the control group"),
    # How a finding is called and shown
    "mark": (*("",) * 5, *(" (arrow)",) * 3, " (white arrow)", " (arrowhead)", " (asterisk)"),
    "marks": (*("",) * 5, *(" (arrows)",) * 3, " (white arrows)", " (arrowheads)"),
    "size": ("", "", "{big} mm ", "{big} × {big} mm ", "large ", "small "),
    "shape": ("", "[round|oval|lobulated|irregular|well-defined|ill-defined|heterogeneous] "),
    "exam": ("{pre}{core}",),
    "level": ("of {organ_pair}",),
    "class_exam": ("{exam} of {class_place}", "{exam} of {class_place}", "{pre}{class_adj} {core}"),
    "finite": ("shows", "shows", "demonstrates", "reveals", "depicts", "showed", "revealed"),
    "showing": ("showing", "showing", "demonstrating", "revealing", "with", "depicting"),
    "seen": ("seen", "visible", "noted", "present", "evident"),
    "timing": ("initial", "follow-up", "baseline", "representative", "diagnostic"),
    "moment": ("on admission", "at presentation", "at follow-up", "before treatment", "at the first visit"),
    # The sentences of long legends
    "lead": (
        "{adult} [presented to our department|was admitted|was referred to our hospital] with {COMPLAINT} and "
        "a [past |medical |]history of {history}. [Laboratory tests were unremarkable apart from a [slightly |]raised "
        "creatinine level|Physical examination was [otherwise |]normal and laboratory tests were within the reference "
        "range|The symptoms had begun {weeks} weeks earlier and had not responded to [analgesics|treatment]].",
        "{adult} with a [known |]history of {history} [presented|came to the emergency department|was seen] "
        "because of {COMPLAINT}. [The general condition was good and vital signs were stable|There was no history of "
        "trauma or previous operations|Treatment elsewhere for {weeks} weeks had brought no relief].",
    ),
    "panel": (
        "(B) [Close-up|Magnified view|Enlarged detail] of the same image; the [area of interest|centre of the image] "
        "is [outlined|shown at twice the size].",
        "(B) The same image [with different contrast settings|after adjustment of brightness and contrast] "
        "[gives the same impression|supports this reading].",
    ),
    "late": (
        "At {months}-month follow-up the patient was [well|free of symptoms|in good general condition] and no further "
        "[treatment|intervention] was [planned|necessary].",
        "The patient was [reviewed|seen again] after {months} months, when a repeat examination was [unchanged|"
        "satisfactory] and [symptoms had subsided|no new complaints were reported].",
    ),
    "readers": (
        "The [image|examination] was reviewed independently by two readers with {years} years of experience, and "
        "disagreement was resolved by consensus.",
        "Two blinded observers read all images [independently|twice], and their agreement was good (kappa 0.{gain}).",
        "The reading was done on a dedicated workstation by a consultant with {years} years of experience, who was "
        "unaware of the clinical details.",
    ),
    "consent": (
        "Written informed consent was obtained from the patient for publication of this image.",
        "[Published|Reproduced] with the patient's [written |]consent and the approval of the local ethics committee.",
        "All identifying information was removed from the image before publication.",
    ),
    "main": (
        "(A) {EXAM} [obtained |]{moment} {finite} {SEEN}.",
        "(A) a^ {EXAM} {finite} {SEEN}.",
        "a^ {EXAM} [obtained |]{moment} {finite} {SEEN} (A).",
    ),
    "long": (
        "{lead} {main} {detail} {ORGANS} {technique} {panel} {outcome} {late} {consent}",
        "{lead} {main} {detail} {technique} {panel} {outcome} {late} {readers}",
        "{lead} {main} {ORGANS} {technique} {panel} {late} {readers} {consent}",
        "{lead} {main} {detail} {panel} {outcome} {late} {readers} {consent}",
    ),
}

# Captions with a finding. Each of `both` has EXAM and SEEN, so one of them names the part if it is to be named;
# `exam_only` and `seen_only` serve where EXAM or SEEN would do it, or where nothing shall.
ABNORMAL: Rules = {
    "both": (
        "{EXAM} {showing} {SEEN}.",
        "a^ {EXAM} {finite} {SEEN}.",
        "{opening} {EXAM} {finite} {SEEN}.",
        "{opening} {EXAM} {finite} {SEEN}. {after}",
        "{EXAM} {finite} {SEEN}. {after}",
        "{timing} {EXAM} [in {patient} |]{showing} {SEEN}. {after}",
        "{EXAM} [obtained |]{moment} {finite} {SEEN}. {after}",
        "{EXAM} in {patient} with {COMPLAINT} {finite} {SEEN}.",
        "{opening} a^ {EXAM} [obtained |]{moment} {finite} {SEEN}. {after}",
        "{EXAM}. [Note|There is evidence of|The image shows] {SEEN}. {after}",
    ),
    "exam_only": (
        "{timing} {EXAM} in {patient} with {COMPLAINT}.",
        "{EXAM} {moment}. [{technique}|{ORGANS}]",
        "{opening} {EXAM}.",
    ),
    "seen_only": (
        "{SEEN_IS} {seen} on {method}. {after}",
        "{method} {finite} {SEEN} in {patient}[ with {COMPLAINT}|].",
        "{SEEN} [in {patient} with {COMPLAINT}|on {method}]. {after}",
        "On {method}, {SEEN_IS} {seen}. {after}",
        "{opening} On {method}, {SEEN_IS} {seen}.",
    ),
    "after": ("{detail}", "{outcome}", "{detail} {outcome}", "{technique}", "{ORGANS}", "{ORGANS} {outcome}"),
    "organs_named": (
        "The {bare_pair} are [also shown|included|clearly visible|labelled|partly visible].",
        "The {bare_pair} are [also shown|seen as well|included for orientation].",
        "{legend}",
    ),
    "organs_unnamed": (
        "[No other|No further] abnormality is seen.",
        "The remaining structures are unremarkable.",
        "The surroundings are normal.",
    ),
}

# Captions without one: many of them say only what was examined.
HEALTHY: Rules = {
    "both": (
        "{EXAM} {showing} {SEEN}.",
        "a^ {EXAM} {finite} {SEEN}.",
        "{opening} {EXAM} {finite} {SEEN}.",
        "{EXAM} in {patient} with {COMPLAINT} {finite} {SEEN}. {after}",
        "{timing} {EXAM} [in {patient} |]{showing} {SEEN}. {after}",
        "{opening} {EXAM} [obtained |]{moment} {finite} {SEEN}. {after}",
    ),
    "exam_only": (
        "[Normal|Unremarkable] {EXAM} [in {patient}|{moment}]. {after}",
        "{timing} {EXAM} in {patient} with {COMPLAINT}. {after}",
        "{EXAM} obtained {moment}. {after}",
        "{opening} {EXAM} obtained {moment}. {after}",
        "{EXAM} {control}. [{technique}|{ORGANS}|{detail}]",
    ),
    "seen_only": (
        "{SEEN_IS} {seen} on {method}. {after}",
        "{method} {finite} {SEEN} in {patient}[ with {COMPLAINT}|]. {after}",
        "On {method}, {SEEN_IS} {seen} in {patient}. {after}",
        "{opening} {method} {finite} {SEEN}.",
    ),
    "after": ("{detail}", "{outcome}", "{technique}", "{ORGANS}", "{ORGANS} {outcome}"),
    "organs_named": (
        "The {bare_pair} are [unremarkable|normal|of normal appearance|well shown].",
        "The {bare_pair} appear [unremarkable|normal].",
        "{legend}",
    ),
    "organs_unnamed": (
        "All visible structures are [normal|unremarkable].",
        "Structure and contours are preserved.",
        "Image quality is adequate.",
    ),
    "mark": ("",),
    "marks": ("",),
}

NUMBERINGS = ("(A) ", "(A) ", "(B) ", "(C) ", "Case 1. ", "Case 2. ", "Case 3. ", "Patient 1. ", "Patient 2. ")
NUMBERINGS += tuple(f"Figure {n}. " for n in range(1, 7))

PLACEHOLDERS: tuple[str, ...] = (
    "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.",
    "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.",
    "DESCRIPTION OF THE IMAGE OR FINDINGS",
    "Image description here.",
    "Insert caption here.",
    "Caption goes here",
    "[caption]",
    "Figure legend",
    "Figure legend.",
    "Legend",
    "Figure",
    "Image",
    "No caption available.",
    "N/A",
    "n/a",
    "None",
    "TBD",
    "null",
)


def caption(case: Case, rng: random.Random) -> str:
    """A figure caption about the case, true to its view, modality, finding and side; costs about 20 µs on one core."""
    draw = rng.random
    naming = _drawn_naming(draw())
    grammar = _grammar(case.view, case.finding, naming)
    long = draw() < LONG
    number = ""
    if not long and draw() < NUMBERED:
        number = NUMBERINGS[int(draw() * len(NUMBERINGS))]
    body = polished(written("long" if long else "START", grammar, draw).replace("§", case.side))
    if not long and draw() < NO_FULL_STOP:
        body = body.removesuffix(".")
    return number + body


def names_part(text: str, part: str) -> bool:
    """Whether `text` names the body part: by its class name, another word for it, or an organ, bone or tissue."""
    return _pattern(part).search(text) is not None


def _drawn_naming(luck: float) -> str:
    for naming, share in NAMINGS.items():
        luck -= share
        if luck < 0:
            return naming
    return naming


@cache
def _grammar(view: View, finding: str, naming: str) -> Grammar:
    """All rules for one view, finding and way of naming; later tables hide earlier ones."""
    return compiled(
        SHARED,
        HEALTHY if finding == NORMAL else ABNORMAL,
        FINDINGS[finding],
        LOOKS[view.look],
        PARTS[view.part],
        _organ_rules(view),
        {name: texts for name, texts in VIEWS[view.name].items() if name != "organ"},
        _finding_rules(view, finding),
        _naming_rules(view, finding, naming),
    )


def _organ_rules(view: View) -> Rules:
    organs = dict.fromkeys(view.structures + VIEWS[view.name]["organ"])
    pairs = tuple(permutations(organs, 2))
    # A legend's letters must differ.
    letters = tuple(f"{a[0].upper()}, {a}; {b[0].upper()}, {b}." for a, b in pairs if a[0].upper() != b[0].upper())
    appearances = ("appearances of {organ_pair}",)
    return {
        "organ": tuple(f"the {organ}" for organ in organs),
        "organ_pair": tuple(f"the {a} and {b}" for a, b in pairs),
        "bare_pair": tuple(f"{a} and {b}" for a, b in pairs),
        "plural_pair": tuple(f"{a} and {b}" for a, b in pairs if _is_plural(a) and _is_plural(b)) or appearances,
        "legend": letters,
    }


def _is_plural(organ: str) -> bool:
    return organ.endswith("s") and not organ.endswith(("as", "is", "us", "pons"))


def _finding_rules(view: View, finding: str) -> Rules:
    """The finding in the singular or plural, with and without words that name the part."""
    words = FINDINGS[finding]
    named = NAMED_FINDINGS.get((view.name, finding), {})
    if not named:
        places = {"named_one": ("{one} {at}",), "named_many": ("{many} {at}",)}
        named = {f"named_{n}": words.get(f"named_{n}", places[f"named_{n}"]) for n in ("one", "many") if n in words}
    numbers = [("one", "{mark}", " is"), ("many", "{marks}", " are")]
    plain = [(f"{{{n}}}{mark}", verb) for n, mark, verb in numbers if n in words]
    located = [(f"{{named_{n}}}{mark}", verb) for n, mark, verb in numbers if f"named_{n}" in named]
    return named | {
        "plain": tuple(text for text, _ in plain),
        "plain_is": tuple(text + verb for text, verb in plain),
        "located": tuple(text for text, _ in located),
        "located_is": tuple(text + verb for text, verb in located),
    }


def _naming_rules(view: View, finding: str, naming: str) -> Rules:
    """The rules in CAPITALS."""
    exam = {
        "class": ("{class_exam}",),
        "synonym": ("{pre}{adj} {core}", "{exam} of {place}", "{exam} {level}"),
    }.get(naming, ("{exam}",))
    if naming == "synonym" and "head" in VIEWS[view.name]:
        exam += ("{pre}{head}",) * 2
    rules: Rules = {"EXAM": exam, "START": _starts(naming, finding)}
    if naming == "nothing":
        return rules | {
            "SEEN": ("{plain}",),
            "SEEN_IS": ("{plain_is}",),
            "COMPLAINT": ("{complaint}",),
            "ORGANS": ("{organs_unnamed}",),
        }
    return rules | {
        "SEEN": ("{located}",) if naming == "organ" else ("{plain}", "{plain}", "{located}"),
        "SEEN_IS": ("{located_is}",),
        "COMPLAINT": ("{complaint}", "{complaint}", "{part_complaint}"),
        "ORGANS": ("{organs_named}",),
    }


def _starts(naming: str, finding: str) -> tuple[str, ...]:
    """What a short caption may be, repeated as often as it is wanted."""
    if naming == "organ":
        return ("{both}", "{seen_only}")
    silent = ("{exam_only}",) * (4 if finding == NORMAL else 1)
    return ("{both}",) * 4 + silent + (("{seen_only}",) * 2 if naming == "nothing" else ())


@cache
def _pattern(part: str) -> re.Pattern[str]:
    stems = STEMS[part].replace("$", r"\b").replace("_", r"[\s-]").split()
    return re.compile(rf"\b(?:{'|'.join(stems)})", re.IGNORECASE)


# Labels -------------------------------------------------------------------------------------------------------------

# What the machine wrote where a label should be: kinds of mess, each with its wordings.
_EMPTY = ("", "", " ", "\n", "  ")
_JUNK = ("N/A", "None", "Unknown", "Others", "Other", "nan", "-", "?", "Not specified", "Unspecified", "Body", "Image")
_SENTENCES = (
    "The image shows the {part} of a patient.",
    "The body part shown is the {part}.",
    "This image depicts the {part}, as seen in the figure.",
    "Based on the image, it appears to be the {part}.",
    "The body part cannot be determined from the image.",
    "It is not possible to identify the body part without further information.",
    "The body part is not mentioned in the caption.",
)
_TWO_LABELS = ("{part}, {other}", "{part} and {other}", "{part}/{other}", "{other} & {part}", "{part}; {other}")
_FOREIGN: dict[str, tuple[str, ...]] = {
    "Chest": ("胸部", "Thorax (Brustkorb)", "tórax", "poitrine"),
    "Abdomen": ("腹部", "Bauch", "vientre", "l'abdomen (ventre)"),
    "Brain": ("脑", "Gehirn", "cerebro", "cerveau"),
    "Cell": ("细胞", "Zelle", "célula", "cellule"),
    "Pelvic cavity": ("盆腔", "Becken", "cavidad pélvica", "bassin"),
    "Lower limb": ("下肢", "untere Extremität", "pierna", "membre inférieur"),
    "Oral cavity": ("口腔", "Mundhöhle", "cavidad oral", "cavité buccale"),
    "Gastrointestinal tract": ("胃肠道", "Magen-Darm-Trakt", "tracto gastrointestinal", "tube digestif"),
    "Eye": ("眼睛", "Auge", "ojo", "œil"),
    "Upper limb": ("上肢", "obere Extremität", "brazo", "membre supérieur"),
    "Breast": ("乳房", "Brust", "mama", "sein"),
    "Foot": ("足", "Fuß", "pie", "pied"),
}
_PLURALS = {
    "Breast": "Breasts",
    "Cell": "Cells",
    "Eye": "Eyes",
    "Foot": "Feet",
    "Lower limb": "Lower limbs",
    "Upper limb": "Upper limbs",
}


def bad_label(part: str, rng: random.Random) -> str:
    """A label field that is no label: nothing, a sentence, two labels, another language or other junk."""
    kind = int(rng.random() * 5)
    if kind == 0:
        return _any(_EMPTY, rng)
    if kind == 1:
        return _any(_SENTENCES, rng).format(part=part.lower())
    if kind == 2:
        other = _any(tuple(name for name in PARTS if name != part), rng)
        return _any(_TWO_LABELS, rng).format(part=part, other=other)
    return _any(_FOREIGN[part] if kind == 3 else _JUNK, rng)


def label_variant(part: str, rng: random.Random) -> str:
    """The right label, spelled another way that cleaning can undo; never equal to `part`."""
    return _any(_variants(part), rng)


@cache
def _variants(part: str) -> tuple[str, ...]:
    names = (part, *filter(None, [_PLURALS.get(part)]))
    spellings = [
        spelling
        for name in names
        for spelling in (name, name.lower(), name.upper(), name.title(), f" {name} ", f"{name}.", f"{name.lower()} ")
    ]
    if " " in part:
        spellings += [part.replace(" ", "-").lower(), part.replace(" ", "_").lower(), part.replace(" ", "  ")]
    return tuple(dict.fromkeys(s for s in spellings if s != part))


def _any(options: tuple[str, ...], rng: random.Random) -> str:
    return options[int(rng.random() * len(options))]
