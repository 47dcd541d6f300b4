"""The apparatus: for every look of the catalogue a function from scene to picture, one file a family of modalities.

A look has its own table from tissue to what it measures (absorption, echo, colour), and adds what its apparatus adds:
noise, shadows, frames. `painting` has what more than one of them needs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipdemo.sources.phantom.canvas import Array
from clipdemo.sources.phantom.looks import ct, endoscopy, microscopy, mr, ophthalmology, photography, ultrasound, xray
from clipdemo.sources.phantom.scene import Scene

LOOKS: dict[str, Callable[[Scene, np.random.Generator], Array]] = {
    "ct": ct.ct,
    "mr": mr.mr,
    "xray": xray.xray,
    "barium": xray.barium,
    "ultrasound": ultrasound.ultrasound,
    "histology": microscopy.histology,
    "smear": microscopy.smear,
    "fluorescence": microscopy.fluorescence,
    "fundus": ophthalmology.fundus,
    "oct": ophthalmology.oct,
    "angiography": ophthalmology.angiography,
    "endoscopy": endoscopy.endoscopy,
    "photo": photography.photo,
}
