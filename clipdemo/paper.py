"""Numbers quoted from the paper that this program lets its readers try: nothing here was measured by it."""

from __future__ import annotations

# Table 1 of the paper: ViT-B/32, 4,096 entries of PubMedVision; per cent. Kind, title, top-1, top-3.
PAPER = (("base", "Pre-trained", 49.4, 78.9), ("captions", "Fine-tuned (captions)", 64.3, 83.1),
         ("labels", "Fine-tuned (labels)", 76.9, 92.1))  # fmt: skip
