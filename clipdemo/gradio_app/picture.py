"""The component that takes a picture: its bytes as they are, from an upload or a data URL and from nowhere else."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from clipdemo.gradio_app.disk import MAX_UPLOAD_BYTES, temporary
from clipdemo.gradio_app.framework import gr
from clipdemo.images import TOO_LARGE


class Picture(gr.Image):
    """An image whose file comes as it is: `images.decode` opens it, not Gradio."""

    is_template = True  # for the browser it is an Image

    def preprocess(self, payload: Any) -> tuple[str, bytes, Path | None] | None:
        """The picture's name, its bytes, and its file if it has one."""
        if payload is None:
            return None
        if (payload.url or "").startswith("data:"):
            return "picture", _from_data_url(payload.url), None
        path = Path(payload.path or "").resolve()
        if not path.is_relative_to(temporary()):
            raise _refused("the picture has to be uploaded, or sent as a data URL")
        try:
            return payload.orig_name or path.name, path.read_bytes(), path
        except FileNotFoundError:
            raise _refused("the picture is not there any more: give it again") from None

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Gradio's own, for files of our folder only."""
        if not Path(url_or_file_path or "").resolve().is_relative_to(temporary()):
            raise _refused("addresses and files of the server are not opened: upload the picture itself")
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def _from_data_url(url: str) -> bytes:
    """The bytes of "data:image/png;base64,..."."""
    if len(url) > MAX_UPLOAD_BYTES * 4 // 3 + 200:
        raise _refused(f"the picture is {TOO_LARGE}: at most {MAX_UPLOAD_BYTES // 2**20} MiB are taken")
    try:
        return base64.b64decode(url.partition(";base64,")[2], validate=True)
    except binascii.Error:
        raise _refused("the data URL is no base64: write data:image/png;base64,...") from None


def _refused(said: str) -> gr.Error:
    return gr.Error(said, print_exception=False)
