"""A fine-tuned model leaves the workspace: as a folder that open_clip loads, as a Space that stands alone, on the Hub.

`facts` reads what there is to say about a run, `card` says it, `folder` writes a folder that is whole or not there,
`model` fills it for open_clip and `space` with an app around that, and `hub` pushes what they made.
"""

from clipdemo.export.hub import push
from clipdemo.export.model import export_model
from clipdemo.export.packed import WRITES, pushed, zipped
from clipdemo.export.space import export_space

__all__ = ["WRITES", "export_model", "export_space", "push", "pushed", "zipped"]
