"""What each source can be told. Descriptions are the command line's help; "" always means: find out yourself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from clipdemo.records import Fraction, Record

NO_COLUMN = "none"  # written for a column that is there and shall not be used

_PATH = Field("", description="Folder, archive or table on this machine.")
_IMAGE = Field("", description="Column that holds the pictures; guessed where it is left out.")
_CAPTION = Field("", description="Column that holds the captions; guessed where it is left out, none: do not use any.")
_LABEL = Field("", description="Column that holds the labels; guessed where it is left out, none: do not use any.")
_GROUP = Field(
    "",
    description="Column of what belongs together (patient, case, article), which no split divides; guessed, or none.",
)
_REVISION = Field("main", description="Branch, tag or commit of a repository on the Hub.")


class PhantomOptions(Record):
    """How long the built-in source is and how messy. Rates are fractions of its rows."""

    rows: int = Field(40_000, ge=1, le=10_000_000, description="Rows of the source that are looked at.")
    bad_labels: Fraction = Field(0.08, description="Labels that are no label.")
    wrong_labels: Fraction = Field(0.04, description="Labels of another class.")
    label_variants: Fraction = Field(0.15, description="Right labels, spelled another way.")
    placeholders: Fraction = Field(0.02, description="Captions that say nothing.")
    same_case: Fraction = Field(0.15, description="Further pictures of a patient.")
    duplicates: Fraction = Field(0.01, description="The same picture again.")
    near_duplicates: Fraction = Field(0.01, description="The same picture, slightly changed.")


class PubMedVisionOptions(Record):
    """PubMedVision, from the Hub or from a folder in the same layout."""

    path: str = _PATH
    repository: str = Field("FreedomIntelligence/PubMedVision", description="Its id on the Hub.")
    revision: str = _REVISION
    config: Literal["alignment", "instruction"] = Field("alignment", description="Which of the two lists of rows.")
    caption: Literal["original", "gpt4v"] = Field(
        "original", description="The authors' original caption, or the description that GPT-4V made of it."
    )
    several: Literal["first", "drop"] = Field("first", description="Rows with several pictures: the first, or none.")
    others: bool = Field(False, description="Whether the body part “Others” counts as a class.")


class FolderOptions(Record):
    """A folder or archive of pictures: class folders, or pictures beside a metadata.csv or metadata.jsonl."""

    path: str = _PATH
    label_level: int = Field(
        1, ge=0, le=9, description="Which folder above a picture names its class: 1 the next, 2 the one above; 0 none."
    )
    image_column: str = _IMAGE
    caption_column: str = _CAPTION
    label_column: str = _LABEL
    group_column: str = _GROUP


class TableOptions(Record):
    """A CSV, TSV, JSON, JSON lines or Parquet file with a row a picture."""

    path: str = _PATH
    images: str = Field("", description="Folder that the pictures' paths start from; else the table's own.")
    image_column: str = _IMAGE
    caption_column: str = _CAPTION
    label_column: str = _LABEL
    group_column: str = _GROUP


class HubOptions(Record):
    """Any image dataset on the Hub, read as a stream."""

    dataset: str = Field("", description="Id of a dataset on the Hub, such as OWNER/NAME.")
    config: str = Field("", description="Its configuration, where it has several.")
    split: str = Field("train", description="Its split.")
    revision: str = _REVISION
    image_column: str = _IMAGE
    caption_column: str = _CAPTION
    label_column: str = _LABEL
    group_column: str = _GROUP
    rows: int = Field(20_000, ge=1, le=10_000_000, description="Rows of the source that are looked at.")
    buffer: int = Field(1000, ge=1, le=1_000_000, description="Rows that the stream is shuffled among.")
