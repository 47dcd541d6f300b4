"""Gradio, told before it is imported to write into our folder only and to tell nobody. It takes seconds to import."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clipdemo.errors import ClipDemoError, PictureError
from clipdemo.gradio_app.disk import uploads_folder
from clipdemo.workspace import Workspace

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_TEMP_DIR"] = str(uploads_folder())

import gradio as gr
from gradio import component_meta, route_utils

__all__ = ["QUEUE", "gr", "own_errors"]

QUEUE = "models"  # one for all that asks models, so that calls are answered in order of arrival


class _Upload(route_utils.GradioUploadFile):
    """Two uploads of the same bytes get two folders, which nobody can guess.

    Gradio names an upload's folder after its bytes: one caller's would go when another's is deleted.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.sha.update(secrets.token_bytes(16))


route_utils.GradioUploadFile = _Upload
component_meta.create_or_modify_pyi = lambda *_: None  # Gradio would write a .pyi beside a component of ours


@contextmanager
def own_errors(workspace: Workspace) -> Iterator[None]:
    """What a reader can mend as Gradio's own error, with its one line, which does not tell where the workspace is."""
    try:
        yield
    except ClipDemoError as error:
        title = "This picture cannot be used" if isinstance(error, PictureError) else "This cannot be answered"
        said = str(error).replace(str(workspace.root), "the workspace")
        raise gr.Error(said, title=title, print_exception=False) from None
