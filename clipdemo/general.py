"""A held-out general set: plates of the built-in base's own pretraining domain, for seeing what fine-tuning forgets.

For the built-in base it is what the model was good at before: fresh plates from the drawer of its pretraining, of seeds
that pretraining never used. For a base that was pretrained elsewhere, such as OpenAI's CLIP, the same set is just
general drawings: it measures transfer to plates, and says nothing about what else that model has forgotten. A page that
shows the number shows `meaning` beside it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from clipdemo.progress import Activity, Progress
from clipdemo.records import BUILT_IN_BASE
from clipdemo.sources.phantom.catalogue import NORMAL, PARTS, VIEWS, Case, View
from clipdemo.workspace import Workspace

GENERAL_SET = "plates-1"  # another name where what is drawn changes
SEED = 30_000  # pretraining drew its plates, and those that it was tested on, from 20,000
PLATES_A_VIEW = 24
CLASSES = tuple(sorted(PARTS))
PRETRAINING_FIT, PRETRAINING_CROP = (
    80,
    72,
)  # pixels: the size to which pretraining scaled a plate, and what it saw of it


@dataclass(frozen=True, slots=True)
class Plate:
    """All that one plate is made of, before anything is drawn."""

    case: Case
    caption_seed: int
    take_seed: int

    @classmethod
    def of(cls, seed: int, index: int, view: View | None = None) -> Plate:
        """Plate `index` of a seed, of a chance view or of the one given. Other seeds share no plate with this one."""
        rng = random.Random(seed << 32 | index)
        chance = VIEWS[rng.randrange(len(VIEWS))]
        case = Case(view or chance, NORMAL, rng.choice(("left", "right")), rng.getrandbits(63))
        return cls(case, rng.getrandbits(63), rng.getrandbits(63))

    def drawn(self) -> np.ndarray:
        """uint8 (128, 128, 3), the same bytes on every machine."""
        from clipdemo.sources.phantom.plates import draw_plate

        return draw_plate(self.case, self.take_seed)


@dataclass(frozen=True)
class GeneralSet:
    """Plates as a model takes them: uint8 (n, size, size, 3), memory-mapped, and each one's place in `CLASSES`."""

    pixels: np.ndarray
    target: np.ndarray  # int (n,)

    @property
    def labels(self) -> list[str]:
        """Each plate's body part."""
        return [CLASSES[i] for i in self.target]


def general_plates() -> list[Plate]:
    """The set before it is drawn: every view equally often, so a body part has 48 or 72 plates, 2 or 3 views of 24."""
    return [Plate.of(SEED, i, VIEWS[i % len(VIEWS)]) for i in range(PLATES_A_VIEW * len(VIEWS))]


def general_set(size: int, workspace: Workspace) -> Activity[GeneralSet]:
    """The plates for a model that sees `size` x `size` pixels, drawn once a workspace: 792 of them, about 5 seconds."""
    plates = general_plates()
    name = f"general-{GENERAL_SET}-{size}"
    with workspace.lock(name):
        if not workspace.folder("cache", name).is_dir():
            with workspace.new_folder("cache", name) as folder:
                pixels = np.lib.format.open_memmap(
                    folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(plates), size, size, 3)
                )
                for i, plate in enumerate(plates, start=1):
                    pixels[i - 1] = _seen(plate.drawn(), size)
                    if i % 64 == 0 or i == len(plates):
                        yield Progress(stage="plates", done=i, total=len(plates), note="drawing the general set")
                pixels.flush()
    target = np.array([CLASSES.index(plate.case.view.part) for plate in plates])
    return GeneralSet(np.load(workspace.folder("cache", name) / "pixels.npy", mmap_mode="r"), target)


def _seen(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle of a plate at the scale at which pretraining saw it: its tests cut 72 of 80 pixels."""
    from PIL import Image

    from clipdemo.images import fit_square

    whole = round(size * PRETRAINING_FIT / PRETRAINING_CROP)
    edge = (whole - size) // 2
    return fit_square(Image.fromarray(picture), whole)[edge : edge + size, edge : edge + size]


def meaning(base: str) -> str:
    """What accuracy on the general set says about models that come from this base, as a sentence."""
    what = f"{PLATES_A_VIEW * len(VIEWS):,} synthetic textbook plates, a choice of {len(CLASSES)} body parts"
    if base == BUILT_IN_BASE:
        return f"General set: {what}. The base learned from such plates; these it has never seen."
    return f"General set: {what}. {base} was pretrained on something else: this is only how well it reads drawings."
