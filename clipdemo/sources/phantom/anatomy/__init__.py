"""The patients: for every view of the catalogue a function from case and grid to layers, one file a body part.

To find what a view shows, look it up in `SCENES` and open that file. Pictures are seen as a reader sees them: the
patient's left is on the right (x > 0), and axial slices are seen from the feet, with the front up. `sketch` draws
slices, `bones` radiographs, `spots` cells by the hundred; `shapes` has what they share.
"""

from __future__ import annotations

from collections.abc import Callable

from clipdemo.sources.phantom.anatomy import (
    abdomen,
    arm,
    brain,
    breast,
    cells,
    chest,
    eyes,
    foot,
    gut,
    leg,
    mouth,
    pelvis,
)
from clipdemo.sources.phantom.canvas import Grid
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer

SCENES: dict[str, Callable[[Case, Grid], list[Layer]]] = {
    "abdomen-ct": abdomen.axial,
    "abdomen-us": abdomen.ultrasound,
    "abdomen-mr": abdomen.axial,
    "brain-mr": brain.axial,
    "brain-ct": brain.axial,
    "brain-mr-sagittal": brain.sagittal,
    "breast-mammogram": breast.mammogram,
    "breast-us": breast.ultrasound,
    "breast-mr": breast.axial,
    "cell-histology": cells.histology,
    "cell-smear": cells.smear,
    "cell-fluorescence": cells.fluorescence,
    "chest-xray": chest.radiograph,
    "chest-ct": chest.axial,
    "eye-fundus": eyes.fundus,
    "eye-oct": eyes.retina,
    "eye-angiography": eyes.angiography,
    "foot-xray-lateral": foot.from_side,
    "foot-xray-ap": foot.from_above,
    "foot-mr": foot.sagittal,
    "gut-endoscopy": gut.endoscopy,
    "gut-barium": gut.barium,
    "leg-xray": leg.radiograph,
    "knee-mr": leg.knee,
    "mouth-panoramic": mouth.panoramic,
    "mouth-periapical": mouth.periapical,
    "mouth-photo": mouth.photo,
    "pelvis-xray": pelvis.radiograph,
    "pelvis-mr": pelvis.axial,
    "pelvis-us": pelvis.ultrasound,
    "hand-xray": arm.hand,
    "elbow-xray": arm.elbow,
    "shoulder-mr": arm.shoulder,
}
