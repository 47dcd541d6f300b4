"""Words about examinations, by look."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

# By look: `pre` + `core` make an examination's name, `method` is the same without an article, `technique` a sentence.
# None of these words may tell the body part.
LOOKS: dict[str, Rules] = {
    "ct": {
        "level": ("[at the level of|through] {organ}", "of {organ_pair}"),
        "pre": ("[|contrast-enhanced |unenhanced |non-contrast |post-contrast ][|axial |axial |transverse ]",),
        "core": ("CT image", "CT scan", "CT section", "CT slice", "computed tomography image", "CT image"),
        "method": ("[|contrast-enhanced |unenhanced ]CT", "computed tomography"),
        "technique": (
            "Images were acquired with a section thickness of {thin} mm at {kilovolts} kV.",
            "Images were reconstructed at {thin} mm with a [smooth|standard|sharp] kernel.",
            "Window settings were kept constant and the tube voltage was {kilovolts} kV.",
        ),
    },
    "mr": {
        "level": ("[at the level of|through] {organ}", "of {organ_pair}"),
        "plane": ("",),
        "weight": ("T1-weighted", "T2-weighted", "T2-weighted", "contrast-enhanced T1-weighted", "turbo spin-echo"),
        "pre": ("[|{plane}]{weight} ", "{weight} {plane}", "{plane}"),
        "core": ("MR image", "MR image", "MRI scan", "MRI", "magnetic resonance image", "MRI section"),
        "method": ("MRI", "{weight} MRI", "magnetic resonance imaging", "the {weight} image"),
        "technique": (
            "Imaging was performed at [1.5|3] T with a section thickness of {thin} mm and no interslice gap.",
            "The sequence parameters were a repetition time of {time}0 ms and an echo time of {echo} ms.",
            "Images were acquired at [1.5|3] T with a matrix of [256 × 256|320 × 320|512 × 512].",
        ),
    },
    "ultrasound": {
        "pre": ("[|grey-scale |gray-scale |B-mode |high-resolution |real-time ]",),
        "core": ("ultrasound image", "ultrasound scan", "sonogram", "ultrasonogram", "sonographic image"),
        "method": ("ultrasound", "ultrasonography", "sonography", "B-mode ultrasound"),
        "probe": ("curved-array",),
        "hertz": ("3.5", "5"),
        "technique": (
            "A {hertz} MHz {probe} transducer was used with the gain set to {gain} dB.",
            "The gain was set to {gain} dB and the dynamic range to {range} dB.",
            "Scanning was performed with a {probe} probe at {hertz} MHz and a mechanical index of {index}.",
        ),
    },
    "xray": {
        "projection": ("",),
        "pre": ("[|plain |digital |conventional ]{projection}", "{projection}"),
        "core": ("radiograph", "radiograph", "X-ray", "X-ray image", "X-ray film"),
        "method": ("radiography", "plain radiography", "the radiograph", "plain film"),
        "technique": (
            "The exposure was made at {kilovolts} kV with a computed radiography system.",
            "A digital detector was used and the film was read on a calibrated monitor.",
        ),
    },
    "barium": {
        "pre": ("double-contrast ", "single-contrast ", "air-contrast ", "fluoroscopic "),
        "core": ("study", "radiograph", "spot image", "spot radiograph", "image", "examination"),
        "method": ("the double-contrast study", "fluoroscopy", "the contrast study"),
        "technique": (
            "The study was performed with {millilitres} mL of contrast medium.",
            "Spot images were taken under fluoroscopic control with the patient [supine|prone|in the oblique "
            "position].",
        ),
    },
    "endoscopy": {
        "pre": ("[|white-light |high-definition |conventional |close-up ]",),
        "core": ("endoscopic image", "endoscopic view", "endoscopic photograph", "endoscopy image"),
        "method": ("endoscopy", "white-light endoscopy", "the endoscopic examination"),
        "technique": (
            "A high-definition video endoscope was used under conscious sedation.",
            "The image was taken in white light during withdrawal of the instrument, which took {thin} minutes.",
        ),
    },
    "fundus": {
        "pre": ("[|colour |color |wide-field colour |digital colour ]",),
        "core": ("photograph", "photograph", "photographic image"),
        "method": ("colour photography", "photography after mydriasis", "the colour photograph"),
        "technique": ("The photograph was taken with a {field}° camera.", "A non-mydriatic {field}° camera was used."),
    },
    "oct": {
        "pre": ("[|spectral-domain |swept-source |horizontal |high-definition |averaged ]",),
        "core": ("OCT image", "OCT scan", "OCT B-scan", "optical coherence tomography image", "OCT section"),
        "method": ("OCT", "spectral-domain OCT", "optical coherence tomography"),
        "technique": (
            "The scan is the mean of {echo} frames and has a length of {thin} mm.",
            "The signal strength was {thin} out of 10 and {echo} frames were averaged.",
        ),
    },
    "angiography": {
        "pre": ("[|digital |high-resolution |single ]",),
        "core": (
            "infrared reflectance image", "infrared image", "scanning laser image",
            "[|early-phase |mid-phase ]angiogram", "[|late-phase |late ]fluorescein angiogram",
        ),
        "method": ("infrared reflectance imaging", "fluorescein angiography", "the angiogram"),
        "technique": (
            "The image is the mean of {thin} frames with a {field}° field of view.",
            "Images were acquired with a scanning laser system and a {field}° field of view.",
        ),
    },
    "histology": {
        "pre": ("[|H&E-stained |haematoxylin and eosin-stained |paraffin |routine ]",),
        "core": ("photomicrograph", "micrograph", "microscopic image", "section", "light micrograph"),
        "method": ("light microscopy", "microscopy", "microscopic examination", "H&E staining"),
        "technique": (
            "H&E, original magnification ×{power}.", "Haematoxylin and eosin, ×{power}.",
            "Hematoxylin-eosin stain; scale bar, {bar} µm.",
        ),
    },
    "smear": {
        "pre": ("[|Giemsa-stained |Wright-stained |Leishman-stained |May-Grünwald-Giemsa-stained ]",),
        "core": ("smear", "smear", "film", "photomicrograph", "light micrograph", "microscopic image"),
        "method": ("light microscopy", "microscopy of the smear", "Giemsa staining", "oil-immersion microscopy"),
        "technique": (
            "Oil immersion, original magnification ×1000.", "Original magnification ×{oil}; scale bar, 10 µm.",
            "Oil-immersion objective, ×{oil}.",
        ),
        "oil": ("400", "600", "1000", "1000"),
    },
    "fluorescence": {
        "pre": ("[|confocal |merged |two-channel |wide-field ]",),
        "core": (
            "fluorescence micrograph", "fluorescence image", "immunofluorescence image", "fluorescence photomicrograph",
        ),
        "method": ("fluorescence microscopy", "confocal microscopy", "immunofluorescence"),
        "technique": (
            "Blue, DAPI; green, phalloidin; scale bar, {bar} µm.", "DAPI counterstain, ×{power}.",
            "Images were taken with a {power}× objective; scale bar, {bar} µm.",
        ),
    },
    "photo": {
        "pre": ("[|clinical |close-up |digital |colour ]",),
        "core": ("photograph", "photograph", "photographic view"),
        "method": ("inspection", "clinical examination", "the clinical photograph"),
        "technique": ("The photograph was taken with a digital camera, a macro lens and a ring flash.",),
    },
}  # fmt: skip  # fmt: skip
