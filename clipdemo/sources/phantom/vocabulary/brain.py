"""Words about the brain. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the brain",),
    "class_adj": ("brain",),
    "part_complaint": ("headache", "seizures", "sudden hemiparesis", "confusion", "unsteady gait", "vertigo"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "brain-mr": {
        "plane": ("axial ", "transverse "),
        "weight": ("T1-weighted", "T2-weighted", "FLAIR", "T2-weighted FLAIR", "contrast-enhanced T1-weighted"),
        "adj": ("cranial", "cerebral", "intracranial", "head"),
        "place": ("the head", "the cerebrum", "the cerebral hemispheres", "the skull and its contents"),
        "at": (
            "in the § cerebral hemisphere", "in the § hemisphere", "beside the § lateral ventricle",
            "in the § cerebrum",
        ),
        "organ": ("thalami", "centrum semiovale"),
    },
    "brain-ct": {
        "adj": ("cranial", "cerebral", "head", "head", "intracranial"),
        "place": ("the head", "the skull", "the cerebral hemispheres", "the cranium"),
        "at": (
            "in the § cerebral hemisphere", "in the § hemisphere", "within the cranium on the §", "in the § cerebrum",
        ),
        "organ": ("basal cisterns", "cortical sulci"),
    },
    "brain-mr-sagittal": {
        "plane": ("sagittal ", "midsagittal ", "mid-sagittal "),
        "weight": ("T1-weighted", "T2-weighted", "contrast-enhanced T1-weighted", "FLAIR"),
        "adj": ("cranial", "head", "cerebral", "intracranial"),
        "place": ("the head", "the posterior fossa and cerebrum", "the cerebellum", "the intracranial midline"),
        "at": ("within the cranium", "in the midline of the head", "in the intracranial compartment"),
        "organ": ("pituitary gland", "pons"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("brain-mr", "white matter lesions"): {
        "named_many": (
            "[multiple|confluent|periventricular] white matter lesions", "{many} in the white matter",
            "{many} near the ventricles", "white matter hyperintensities", "demyelinating plaques in the white matter",
        ),
    },
    ("brain-ct", "haemorrhage"): {
        "named_one": (
            "a^ [acute |]§ [intracerebral|intracranial|cerebral] [haemorrhage|hemorrhage|haematoma]", "{one} {at}",
            "a^ intracranial bleed on the §",
        ),
    },
    ("brain-ct", "infarct"): {
        "named_one": (
            "a^ § [hemispheric|cerebral] [infarct|infarction]", "{one} {at}", "a^ ischaemic lesion {at}",
            "a^ § cerebral ischaemic lesion",
        ),
    },
    ("brain-ct", "mass"): {
        "named_one": ("{one} {at}", "a^ {size}§ intracranial mass", "a^ {size}cerebral tumour on the §"),
    },
    ("brain-mr", "mass"): {
        "named_one": (
            "{one} {at}", "a^ {size}§ cerebral tumour", "a^ {size}glioma {at}", "a^ {size}§ intracranial mass",
        ),
    },
}  # fmt: skip

STEMS = (
    "basal_cistern basal_ganglia brain callos centrum_semi cereb cortex cortical_sulc crani glioma head$ "
    "hemispher intracerebr intracran periventric pituitary pons$ posterior_fossa skull thalam ventric "
    "white_matter"
)
