"""Everything that can go wrong and be somebody's to mend.

    ClipDemoError                 the one to catch
      BadSettings                 a setting has a value that cannot work
      SourceError                 a source is unknown or cannot be read
      SampleError                 a sample cannot be drawn, or is not there
      PictureError                bytes that are not a picture, or one that is too large
      ModelError                  a model is unknown or its weights do not load
      TrainingError               a run cannot go on
      ComparisonError             models that were not measured on the same pictures
      WorkspaceError              a file or folder cannot be written or read
      Forbidden                   somebody may not do this on this server, or not so much of it
      Stopped                     somebody asked this work to stop

The library raises; a page or the command line catches `ClipDemoError` in one place and shows its one line.
A message names the thing, the value found and the way out.
"""


class ClipDemoError(Exception):
    """Something went wrong that its reader can mend."""


class BadSettings(ClipDemoError):
    """A setting has a value that cannot work."""


class SourceError(ClipDemoError):
    """A source is unknown or cannot be read."""


class SampleError(ClipDemoError):
    """A sample cannot be drawn, or is not there."""


class PictureError(ClipDemoError):
    """Bytes that are not a picture, or a picture too large to open.

    `reason` is the kind of trouble in a few words, the same for all pictures that have it, so that they can be counted.
    """

    def __init__(self, message: str, reason: str = "picture cannot be read") -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(ClipDemoError):
    """A model is unknown, or its weights do not load."""


class TrainingError(ClipDemoError):
    """A training run cannot go on."""


class ComparisonError(ClipDemoError):
    """Models that cannot be compared, or a comparison that is not there."""


class WorkspaceError(ClipDemoError):
    """A file or folder of the workspace cannot be written or read."""


class Forbidden(ClipDemoError):
    """Somebody may not do this on this server, or not so much of it."""


class Stopped(ClipDemoError):
    """Somebody asked this work to stop, and it did at the next safe place."""
