"""The classifier as a Gradio app: a page for people, named endpoints for programs, one queue for both.

`mounted` → `serving`, which puts it together → `guard` in front of it, `page` and `endpoints` (with `look`, `picture`).
These answer with `service` and note with `flags`, which know nothing of Gradio. `disk` is the temporary folder.

What touches the disk: Gradio writes an uploaded file into a private folder, readable by this user only.
A program's file is deleted as soon as it is read, before the answer; any other, such as one that is shown on the page,
after `disk.KEPT_SECONDS`; all of them when the process ends. What a killed process leaves is deleted by the next one.
A picture sent as a data URL never touches the disk. Flags are kept in the workspace, with the picture only if asked to.

Gradio takes seconds to import. Only `framework` does so, and `serving` imports it when somebody asks for the app.
"""

from clipdemo.gradio_app.mounted import Mounted
from clipdemo.gradio_app.serving import MAX_WAITING, asgi

__all__ = ["MAX_WAITING", "Mounted", "asgi"]
