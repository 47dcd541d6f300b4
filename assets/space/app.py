"""Which of some labels does a picture show? Asks the CLIP in model/; labels.json holds its labels."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import open_clip
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
SETTINGS = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
MOST_LABELS, LONGEST_LABEL = 100, 200

network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{HERE / 'model'}")
network.eval()
tokenizer = open_clip.get_tokenizer(f"local-dir:{HERE / 'model'}")


def meanings(sentences: list[list[str]]) -> torch.Tensor:
    """float32 (n_labels, dim), rows of unit length: the mean of each label's sentences."""
    with torch.inference_mode():
        means = [network.encode_text(tokenizer(own), normalize=True).mean(dim=0) for own in sentences]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)


OWN = meanings(list(SETTINGS["labels"].values())) if SETTINGS["labels"] else None


def asked(text: str) -> tuple[list[str], torch.Tensor]:
    """The labels to choose from, one a line of the text, with their meanings; the model's own for an empty one."""
    lines = dict.fromkeys(line.strip() for line in (text or "").splitlines())
    labels = [line for line in lines if line]
    if not labels:
        if OWN is None:
            raise gr.Error("Write two or more labels, one a line.")
        return list(SETTINGS["labels"]), OWN
    if not 2 <= len(labels) <= MOST_LABELS or max(map(len, labels)) > LONGEST_LABEL:
        raise gr.Error(f"2 to {MOST_LABELS} different labels of at most {LONGEST_LABEL} letters, please, one a line.")
    templates = [part.strip() for part in SETTINGS["template"].split("|")]
    return labels, meanings([[part.replace("{label}", label.lower()) for part in templates] for label in labels])


def classify(picture: Image.Image, labels: str = "") -> dict[str, float]:
    """The probability of each label, by cosine similarity and the logit scale that suits validation pictures."""
    if picture is None:
        raise gr.Error("A picture, please.")
    names, texts = asked(labels)
    with torch.inference_mode():
        image = network.encode_image(transform(picture).unsqueeze(0), normalize=True)
        probabilities = (SETTINGS["logit_scale"] * image @ texts.T).softmax(dim=-1)[0]
    return dict(zip(names, probabilities.tolist(), strict=True))


with gr.Blocks(title=SETTINGS["title"]) as demo:
    gr.Markdown(SETTINGS["about"])
    with gr.Row():
        with gr.Column():
            picture = gr.Image(type="pil", image_mode="RGB", sources=["upload", "clipboard"], label="Picture")
            own = gr.Textbox(lines=4, label="Own labels, one a line", placeholder="Empty: those it was trained for")
            button = gr.Button("Classify", variant="primary")
        answer = gr.Label(num_top_classes=5, label="Answer")
    button.click(classify, [picture, own], answer, api_name="classify")
    if examples := sorted(str(path) for path in (HERE / "examples").glob("*.png")):
        gr.Examples([[path] for path in examples], [picture])

if __name__ == "__main__":
    plain = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # no fonts from elsewhere
    demo.queue(max_size=32).launch(theme=plain, max_file_size="20mb", ssr_mode=False)
