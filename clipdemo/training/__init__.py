"""Fine-tuning one CLIP: `losses`, `schedule`, the `loop`, and the folders of `runs`. Importing it imports no torch."""
