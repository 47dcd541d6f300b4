"""Words about the pelvis. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the pelvic cavity",),
    "class_adj": ("pelvic cavity",),
    "part_complaint": ("pelvic pain", "pelvic pressure", "lower urinary tract symptoms"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "pelvis-xray": {
        "projection": ("anteroposterior ", "AP ", "frontal ", ""),
        "adj": ("pelvic", "pelvic", "hip", "sacroiliac"),
        "place": ("the pelvis", "the hips", "the pelvic ring", "the hips and sacrum", "the § hip"),
        "at": ("on the § side of the pelvis", "in the § hemipelvis", "near the § hip", "in the pelvic girdle on the §"),
        "organ": ("acetabula", "ischia", "sacroiliac joints"),
        "part_complaint": ("hip pain", "pain in the § groin", "a fall on the § hip", "low back pain"),
    },
    "pelvis-mr": {
        "weight": ("T1-weighted", "T2-weighted", "fat-suppressed T2-weighted", "contrast-enhanced T1-weighted"),
        "adj": ("pelvic", "pelvic", "prostatic", "rectal"),
        "place": ("the pelvis", "the prostate and urinary bladder", "the lesser pelvis", "the pelvic floor"),
        "at": (
            "in the § hemipelvis", "on the § side of the pelvis", "near the urinary bladder", "in the lesser pelvis",
        ),
        "organ": ("seminal vesicles", "obturator muscles", "mesorectum"),
        "person": ("man", "man", "male patient"),
        "child": ("boy",),
    },
    "pelvis-us": {
        "adj": ("pelvic", "pelvic", "gynaecological", "uterine"),
        "place": ("the pelvis", "the uterus", "the uterus and ovaries", "the urinary bladder and uterus"),
        "at": ("in the § adnexa", "on the § side of the pelvis", "near the uterus", "beside the urinary bladder"),
        "organ": ("myometrium", "cervix", "pouch of Douglas"),
        "person": ("woman", "woman", "female patient"),
        "child": ("girl",),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("pelvis-xray", "implant"): {
        "named_one": ("a^ § hip prosthesis", "a^ § total hip arthroplasty", "a^ § hip implant", "{one} {at}"),
    },
    ("pelvis-xray", "fracture"): {
        "named_one": ("a^ § pelvic fracture", "{one} {at}", "a^ fracture of the § hemipelvis"),
    },
    ("pelvis-us", "cyst"): {"named_one": ("a^ {size}§ ovarian cyst", "a^ § adnexal cyst", "{one} {at}")},
    ("pelvis-us", "mass"): {"named_one": ("a^ {size}§ adnexal mass", "a^ {size}pelvic mass", "{one} {at}")},
}  # fmt: skip

STEMS = (
    "acetab adnex bladder cervix douglas endometr femoral_head gynaecol hemipelv hip$ hips$ iliac ischia "
    "mesorect myometr obturator ovar pelvi prosta pubic rectal rectum sacr seminal symphys uter"
)
