"""What endpoints answer, as plain values; nothing of Gradio."""

from __future__ import annotations

from contextlib import suppress

from clipdemo import classify, opened
from clipdemo.classify import Classifier, Model, Result
from clipdemo.comparison import load_comparison
from clipdemo.drop import Dropped, dropped_picture
from clipdemo.errors import BadSettings, ClipDemoError
from clipdemo.workspace import Workspace

MAX_NEAREST = 100


class Service:
    """The answers of the comparison asked for, else the one fixed, else the newest.

    Methods that answer take a file's name and bytes, or a text, and raise `ClipDemoError`.
    """

    def __init__(self, workspace: Workspace, comparison: str | None = None) -> None:
        self.workspace, self.comparison = workspace, comparison

    def default(self) -> str | None:
        """Id of the comparison that answers when none is asked for; None is the built-in base."""
        return self.comparison or opened.newest(self.workspace)

    def classifier(self, comparison: str = "") -> Classifier:
        """Opened at the first call, and shared by all."""
        return opened.classifier(self.workspace, (comparison or "").strip() or self.default())

    def comparisons(self) -> list[str]:
        """Ids to choose from, newest first: the one fixed, else those of the workspace that can be read."""
        if self.comparison:
            return [self.comparison]
        found = []
        for name in self.workspace.names("comparisons"):
            with suppress(ClipDemoError):  # damaged, or of an older version
                found.append(load_comparison(self.workspace, name).id)
        return found

    def classify(self, name: str, data: bytes, labels: str = "", template: str = "", comparison: str = "") -> Result:
        """What each model says to the picture; `labels` are divided by commas."""
        found = classify.typed(self.classifier(comparison), labels or "", template or "")  # JSON's null is no text
        return classify.classify(found, [dropped_picture(data, name, found.sizes)])[0]

    def embed_image(self, name: str, data: bytes, comparison: str = "") -> list[dict[str, object]]:
        """Each model's vector of the picture, of unit length."""
        models, picture = self._seen(name, data, comparison)
        return [_of(m) | {"vector": classify.embed_images(m, [picture])[0].tolist()} for m in models]

    def embed_text(self, text: str, comparison: str = "") -> list[dict[str, object]]:
        """Each model's vector of the text, of unit length."""
        models = self.classifier(comparison).models
        return [_of(m) | {"vector": classify.embed_text(m, text or "").tolist()} for m in models]

    def nearest_texts(self, name: str, data: bytes, k: float = 3, comparison: str = "") -> list[dict[str, object]]:
        """The `k` training captions that each model finds nearest to the picture, with their cosines."""
        if k is None or not 1 <= k <= MAX_NEAREST or int(k) != k:
            raise BadSettings(f"k = {k}: ask for 1 to {MAX_NEAREST} texts")
        models, picture = self._seen(name, data, comparison)
        answers = []
        for model in models:
            texts = classify.nearest_captions(model, classify.embed_images(model, [picture]), int(k))[0]
            answers.append(_of(model) | {"texts": [{"text": one.text, "score": one.score} for one in texts]})
        return answers

    def _seen(self, name: str, data: bytes, comparison: str) -> tuple[tuple[Model, ...], Dropped]:
        found = self.classifier(comparison)
        return found.models, dropped_picture(data, name, found.sizes)


def _of(model: Model) -> dict[str, object]:
    return {"model": model.id, "title": model.look.title}
