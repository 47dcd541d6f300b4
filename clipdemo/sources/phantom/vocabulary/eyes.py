"""Words about the eye. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the § eye", "the eye"),
    "class_adj": ("eye",),
    "part_complaint": ("blurred vision", "loss of vision", "floaters", "metamorphopsia"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "eye-fundus": {
        "adj": ("retinal", "fundus", "ophthalmic"),
        "head": ("fundus photograph", "fundus image", "fundoscopic photograph", "retinal photograph"),
        "place": ("the § fundus", "the retina", "the posterior pole", "the § retina"),
        "at": ("at the posterior pole", "in the § retina", "near the macula", "in the § fundus"),
        "organ": ("fovea", "vascular arcades"),
    },
    "eye-oct": {
        "adj": ("macular", "retinal", "foveal"),
        "head": ("macular OCT scan", "foveal B-scan"),
        "place": ("the macula", "the § macula", "the fovea", "the retina"),
        "at": ("at the macula", "beneath the fovea", "in the § retina", "at the § macula"),
        "organ": ("retinal pigment epithelium", "photoreceptor layer", "vitreous"),
    },
    "eye-angiography": {
        "adj": ("retinal", "fundus", "chorioretinal"),
        "head": ("fundus angiogram", "retinal angiogram", "fundus fluorescein angiogram"),
        "place": ("the § fundus", "the retina", "the posterior pole", "the retinal circulation"),
        "at": ("at the posterior pole", "in the § retina", "near the macula", "along the vascular arcades"),
        "organ": ("fovea", "choroid"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("eye-fundus", "drusen"): {
        "named_many": ("[soft|hard|confluent|numerous] drusen", "{many} {at}", "drusen near the macula"),
    },
    ("eye-oct", "drusen"): {
        "named_many": ("[soft|confluent|multiple] drusen", "drusen beneath the retinal pigment epithelium"),
    },
    ("eye-oct", "oedema"): {
        "named_one": (
            "[cystoid|diffuse|diabetic] macular [oedema|edema]", "retinal thickening", "[marked|mild] macular oedema",
        ),
    },
    ("eye-fundus", "haemorrhage"): {
        "named_one": ("a^ [flame-shaped|blot|preretinal] haemorrhage {at}", "a^ retinal hemorrhage", "{one} {at}"),
    },
    ("eye-fundus", "exudates"): {"named_many": ("{many} {at}", "retinal exudates", "hard exudates around the fovea")},
    ("eye-angiography", "leakage"): {
        "named_one": ("{one} {at}", "[perifoveal|macular|retinal] leakage", "leakage from retinal vessels"),
    },
}  # fmt: skip

STEMS = (
    "chorio choroid drusen eye$ eyes$ fovea fundo fundus macula ophthalm optic_dis perifov photorecep "
    "posterior_pole retina vascular_arcade vitre"
)
