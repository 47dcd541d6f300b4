"""clipdemo: see, with your own eyes and data, what fine-tuning does to CLIP."""

__version__ = "0.4.0"
