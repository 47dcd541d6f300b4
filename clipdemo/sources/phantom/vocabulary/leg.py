"""Words about the lower limb. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the § lower limb", "the lower limb"),
    "class_adj": ("lower limb",),
    "part_complaint": ("knee pain", "a limp", "pain on weight-bearing", "a twisting injury of the § knee"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "leg-xray": {
        "adj": ("leg", "§ leg", "lower extremity", "femorotibial"),
        "place": ("the § leg", "the § lower extremity", "the leg", "the long bones of the § leg"),
        "at": ("in the § leg", "in the § lower extremity", "in a long bone of the § leg", "in the § leg"),
        "organ": ("tibial plateau", "femoral shaft", "fibular head"),
    },
    "knee-mr": {
        "millilitres": ("20", "35", "50", "80"),
        "weight": ("T1-weighted", "T2-weighted", "proton density-weighted", "fat-suppressed T2-weighted", "STIR"),
        "adj": ("knee", "§ knee", "knee joint", "meniscal"),
        "place": ("the § knee", "the § knee joint", "the knee", "the menisci and ligaments"),
        "at": ("in the § knee", "in the § knee joint", "in the knee"),
        "organ": ("collateral ligaments", "articular cartilage", "patellar tendon"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("knee-mr", "effusion"): {
        "named_one": ("a^ [large|moderate|small] knee joint effusion", "{one} {at}", "a^ suprapatellar effusion"),
    },
    ("knee-mr", "tear"): {
        "named_one": ("a^ [horizontal|vertical|complex|radial] meniscal tear", "a^ tear of the meniscus", "{one} {at}"),
    },
    ("knee-mr", "oedema"): {
        "named_one": (
            "bone marrow [oedema|edema] {at}", "{one} of the femoral condyle or tibial plateau", "{one} {at}",
        ),
    },
}  # fmt: skip

STEMS = (
    "articular_cart collateral cruciate femor femur fibula knee leg$ legs$ lower_extrem lower_limb menisc "
    "patell suprapat tibia"
)
