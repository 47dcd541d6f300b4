"""Which column of somebody's table holds what: guessed by the names that people use, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from clipdemo.errors import BadSettings
from clipdemo.sources.settings import NO_COLUMN

USUAL_NAMES = {  # written apart; the first of them that is there is taken
    "image": (
        "image image_path image_file image_filename image_file_name file_name filename filepath file_path path file "
        "img img_path img_file picture picture_path photo jpg png image_name image_url url"
    ),
    "caption": (
        "caption original_caption text description report findings impression sentence captions texts descriptions "
        "reports image_caption image_description report_text alt_text"
    ),
    "label": (
        "label labels class class_name category diagnosis body_part finding finding_labels target y disease dx "
        "class_label label_name categories classes"
    ),
    "group": (
        "patient patient_id case case_id subject subject_id study study_id group group_id article article_id pmcid "
        "pmc_id pmid participant participant_id lesion_id series_id"
    ),
}
_SHOWN = 20  # columns that a message lists


def guess_columns(
    names: Sequence[str], image: str | None = None, chosen: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Any of "image", "caption", "label", "group" -> the column of `names` that holds it.

    `chosen` has the user's word for a key: "" for a guess, "none" for no column, else the column. `image` is the
    column known to hold pictures, taken where the user says nothing. A column is guessed for one thing only; the user
    may choose it for two. Raises `BadSettings` when a chosen column is not there.
    """
    words = {key: (chosen or {}).get(key, "") for key in USUAL_NAMES}
    if image and not words["image"]:
        words["image"] = image
    for key, word in words.items():
        if word not in ("", NO_COLUMN, *names):
            raise BadSettings(f"{key}_column = {word[:100]!r}: there is no such column, only {listed(names)}")
    found = {key: word for key, word in words.items() if word not in ("", NO_COLUMN)}
    free: dict[str, str] = {}  # the first column of several with the same plain name
    for name in names:
        if name not in found.values():
            free.setdefault(_plain(name), name)
    for key, usual in USUAL_NAMES.items():
        match = next((plain for plain in map(_plain, usual.split()) if plain in free), None)
        if not words[key] and match is not None:
            found[key] = free.pop(match)
    return {key: found[key] for key in USUAL_NAMES if key in found}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def listed(names: Sequence[str]) -> str:
    """The first of these columns for a message, however many there are and whatever is in their names."""
    if not names:
        return "none at all"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    shown = ("".join(c if c.isprintable() else "\ufffd" for c in name[:50]) for name in names[:_SHOWN])
    return ", ".join(shown) + more
