"""Words about the abdomen. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the abdomen", "the abdomen", "the upper abdomen"),
    "class_adj": ("abdomen",),
    "part_complaint": ("epigastric pain", "jaundice", "abdominal pain", "flank pain", "nausea and vomiting"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "abdomen-ct": {
        "adj": ("abdominal", "abdominal", "upper abdominal", "hepatic", "renal"),
        "place": ("the abdominal cavity", "the upper abdominal organs", "the liver and kidneys", "the retroperitoneum"),
        "at": ("in the § upper quadrant", "in the § hypochondrium", "in the § flank", "at the level of the § kidney"),
        "organ": ("pancreas", "adrenal glands", "inferior vena cava"),
    },
    "abdomen-us": {
        "adj": ("abdominal", "abdominal", "hepatobiliary", "upper abdominal", "right upper quadrant"),
        "place": (
            "the gallbladder", "the liver", "the biliary system", "the right upper quadrant",
            "the liver and gallbladder",
        ),
        "at": (
            "in the right upper quadrant", "near the liver", "in the hepatobiliary region",
            "in the right hypochondrium",
        ),
        "organ": ("portal vein", "common bile duct"),
    },
    "abdomen-mr": {
        "plane": ("axial ", "transverse "),
        "weight": (
            "T1-weighted", "T2-weighted", "fat-suppressed T2-weighted", "contrast-enhanced T1-weighted", "breath-hold",
        ),
        "adj": ("abdominal", "abdominal", "upper abdominal", "hepatic"),
        "place": ("the abdominal cavity", "the liver", "the upper abdominal organs", "the retroperitoneum"),
        "at": ("in the § upper quadrant", "in the § flank", "at the level of the § kidney", "in the § hypochondrium"),
        "organ": ("pancreas", "aorta"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("abdomen-us", "stone"): {
        "named_one": (
            "a^ {small} mm gallstone", "a^ gallbladder stone", "cholelithiasis", "a^ [mobile|solitary] gallstone",
            "{one} in the gallbladder",
        ),
    },
    ("abdomen-ct", "mass"): {
        "named_one": ("{one} {at}", "{one} {at}", "a^ § abdominal mass of {big} mm", "a^ {size}abdominal mass"),
    },
}  # fmt: skip

STEMS = (
    "abdom adrenal aort bile$ biliary cholelith common_bile epigast flank gallbladder gallstone hepat "
    "hypochond kidney liver pancrea portal_vein psoas quadrant renal retroperiton splee splenic stomach "
    "vena_cava"
)
