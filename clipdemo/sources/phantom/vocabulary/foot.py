"""Words about the foot. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the § foot", "the foot"),
    "class_adj": ("foot",),
    "part_complaint": ("heel pain", "pain on walking", "swelling of the toes", "an inversion injury"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "foot-xray-lateral": {
        "projection": ("lateral ", "weight-bearing lateral ", "standing lateral "),
        "adj": ("calcaneal", "pedal", "hindfoot", "tarsal"),
        "place": ("the § hindfoot", "the § heel", "the § calcaneus and talus", "the tarsus", "the plantar arch"),
        "at": ("in the § pedal skeleton", "in the tarsus or toes", "among the tarsal and metatarsal bones"),
        "organ": ("navicular", "cuboid", "longitudinal arch"),
    },
    "foot-xray-ap": {
        "projection": ("anteroposterior ", "AP ", "weight-bearing ", ""),
        "adj": ("dorsoplantar", "forefoot", "metatarsal", "pedal"),
        "place": ("the § forefoot", "the toes", "the metatarsals and toes", "the § hallux and lesser toes"),
        "at": ("in the § forefoot", "among the § metatarsals and toes", "in the toes or metatarsals"),
        "organ": ("cuneiforms", "tarsometatarsal joints", "sesamoids"),
    },
    "foot-mr": {
        "plane": ("sagittal ",),
        "weight": ("T1-weighted", "T2-weighted", "fat-suppressed T2-weighted", "STIR", "proton density-weighted"),
        "adj": ("hindfoot", "ankle and hindfoot", "plantar", "calcaneal"),
        "place": ("the § hindfoot", "the § heel", "the calcaneus and talus", "the § ankle and heel"),
        "at": ("in the § hindfoot", "at the § heel", "near the plantar fascia", "in the hindfoot"),
        "organ": ("talus", "navicular", "sinus tarsi"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("foot-xray-lateral", "spur"): {
        "named_one": (
            "a^ [plantar |inferior |]calcaneal spur", "a^ heel spur", "a^ [small|prominent] plantar spur",
            "{one} of the calcaneus",
        ),
    },
    ("foot-mr", "oedema"): {"named_one": ("{one} {at}", "bone marrow oedema {at}", "marrow edema of the hindfoot")},
}  # fmt: skip

STEMS = (
    "achill ankle calcan cuboid cuneiform dorsoplantar feet foot forefoot hallux heel hindfoot "
    "longitudinal_arch metatars navicular pedal phalan plantar sesamoid sinus_tarsi talus tars toe$ toes$"
)
