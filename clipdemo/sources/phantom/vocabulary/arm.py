"""Words about the upper limb. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the § upper limb", "the upper limb"),
    "class_adj": ("upper limb",),
    "part_complaint": ("a fall on the outstretched hand", "pain on moving the arm", "a sports injury of the § arm"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "hand-xray": {
        "projection": ("posteroanterior ", "PA ", ""),
        "adj": ("hand", "§ hand", "hand and wrist", "carpal"),
        "place": ("the § hand", "the § hand and wrist", "the wrist", "the fingers and carpus"),
        "at": ("in the § hand", "in the § hand or wrist", "in the hand skeleton"),
        "organ": ("distal ulna", "metacarpophalangeal joints", "scaphoid"),
    },
    "elbow-xray": {
        "adj": ("elbow", "§ elbow", "elbow joint", "humeroulnar"),
        "place": ("the § elbow", "the elbow joint", "the § elbow and forearm", "the forearm and distal humerus"),
        "at": ("at the § elbow", "near the elbow joint", "in the § arm", "around the elbow"),
        "organ": ("radial head", "coronoid process", "capitellum"),
    },
    "shoulder-mr": {
        "millilitres": ("10", "15", "20", "30"),
        "plane": ("oblique coronal ", "coronal ", ""),
        "weight": ("T1-weighted", "T2-weighted", "proton density-weighted", "fat-suppressed T2-weighted"),
        "adj": ("shoulder", "§ shoulder", "glenohumeral", "rotator cuff"),
        "place": ("the § shoulder", "the shoulder joint", "the rotator cuff", "the glenohumeral joint"),
        "at": ("in the § shoulder", "at the rotator cuff", "in the § shoulder joint"),
        "organ": ("supraspinatus tendon", "acromion", "labrum"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("shoulder-mr", "tear"): {
        "named_one": (
            "a^ [full-thickness|partial-thickness|complete] rotator cuff tear", "a^ tear of the supraspinatus tendon",
            "{one} {at}",
        ),
    },
    ("shoulder-mr", "effusion"): {
        "named_one": ("a^ [large|moderate] glenohumeral effusion", "{one} {at}", "a^ § shoulder joint effusion"),
    },
}  # fmt: skip

STEMS = (
    "acromi arm$ capitel carp coronoid deltoid elbow finger forearm glen hand$ hands$ humer labrum metacarp "
    "olecran phalan radial_head radius rotator scaph shoulder supraspin ulna upper_extrem upper_limb wrist"
)
