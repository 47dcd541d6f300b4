"""What programs call by name. Components give arguments their names and defaults, and are never seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from clipdemo.errors import BadSettings
from clipdemo.gradio_app.disk import uploads_folder
from clipdemo.gradio_app.framework import QUEUE, gr, own_errors
from clipdemo.gradio_app.picture import Picture
from clipdemo.gradio_app.service import Service


def add(service: Service) -> None:
    """The four endpoints; their docstrings are what the API's page says of them."""
    with gr.Column(visible=False):
        image = Picture(type="filepath", label="image")
        text, k = gr.Textbox(label="text"), gr.Number(3, label="k", precision=0)
        labels, template = gr.Textbox("", label="labels"), gr.Textbox("", label="template")
        comparison, out = gr.Textbox("", label="comparison"), gr.JSON(label="answer")

        def classify(image: tuple | None, labels: str = "", template: str = "", comparison: str = "") -> dict:
            """What each model says to a picture. `labels` are divided by commas; empty, the sample's classes."""
            asked = labels, template, comparison
            return _once(service, image, lambda name, data: service.classify(name, data, *asked).plain())

        def embed_image(image: tuple | None, comparison: str = "") -> list:
            """Each model's vector of a picture, of unit length."""
            return _once(service, image, lambda name, data: service.embed_image(name, data, comparison))

        def embed_text(text: str, comparison: str = "") -> list:
            """Each model's vector of a text, of unit length."""
            with own_errors(service.workspace):
                return service.embed_text(text, comparison)

        def nearest_texts(image: tuple | None, k: float = 3, comparison: str = "") -> list:
            """The training captions nearest to a picture, with their cosines."""
            return _once(service, image, lambda name, data: service.nearest_texts(name, data, k, comparison))

        for answer, inputs in (
            (classify, [image, labels, template, comparison]),
            (embed_image, [image, comparison]),
            (embed_text, [text, comparison]),
            (nearest_texts, [image, k, comparison]),
        ):
            gr.Button().click(answer, inputs, out, api_name=answer.__name__, concurrency_id=QUEUE)


def _once(service: Service, given: tuple | None, answer: Callable[[str, bytes], object]) -> Any:
    """A program's answer; its file is deleted before."""
    with own_errors(service.workspace):
        if given is None:
            raise BadSettings("there is no picture: send one as `image`")
        name, data, path = given
        if path is not None and path.is_relative_to(uploads_folder()):
            path.unlink(missing_ok=True)
            shutil.rmtree(path.parent, ignore_errors=True)
        return answer(name, data)
