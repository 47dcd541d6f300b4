"""What people see: a picture goes in, the models' answers come out, and somebody may flag them."""

from __future__ import annotations

import base64
from pathlib import Path

from clipdemo.appearance import NOT_FOR_DIAGNOSIS
from clipdemo.classify import Classifier, Result, doubt
from clipdemo.errors import BadSettings
from clipdemo.examples import drawn_examples
from clipdemo.gradio_app.disk import temporary
from clipdemo.gradio_app.flags import Flags
from clipdemo.gradio_app.framework import QUEUE, gr, own_errors
from clipdemo.gradio_app.picture import Picture
from clipdemo.gradio_app.service import Service

SHOWN_MODELS = 8
EXAMPLES = 6
_EMPTY = "### Give a picture, or click an example."
_SYNTHETIC = "These pictures are synthetic: drawn by this program, of nobody."


def draw(service: Service, flags: Flags | None) -> None:
    """Everything that is seen, and what it does; nothing can be flagged without `flags`."""
    gr.Markdown(f"# What do the models see?\n{NOT_FOR_DIAGNOSIS}")
    models = gr.Markdown()
    menu = gr.Dropdown([], label="Models of the comparison", visible=False)
    chosen, result = gr.State(""), gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            sources = ["upload", "clipboard", "webcam"]
            picture = Picture(label="Picture", type="filepath", sources=sources, height=300)
            with gr.Accordion("Own labels and sentence", open=False):
                labels = gr.Textbox("", label="Labels, divided by commas", max_length=40_000)
                template = gr.Textbox(
                    value="", label="Sentence of a label", placeholder="a photo of {label}", max_length=300
                )
            ask = gr.Button("Ask the models", variant="primary")
        with gr.Column(scale=3, min_width=280):
            said = gr.Markdown(_EMPTY, min_height=60)
            unfamiliar = gr.Markdown(visible=False)
            columns = []
            with gr.Row():
                for _ in range(SHOWN_MODELS):
                    with gr.Column(min_width=200, visible=False) as column:
                        columns += [column, gr.Label(num_top_classes=3), gr.Markdown()]
    outputs = [result, said, unfamiliar, *columns]
    _examples(service, picture)

    def answer(given: tuple | None, labels: str, template: str, chosen: str) -> list[object]:
        if given is None:
            return [None, _EMPTY, gr.update(visible=False), *_no_columns(SHOWN_MODELS)]
        name, data, _ = given
        with own_errors(service.workspace):
            found = service.classify(name, data, labels, template, chosen)
            return shown(found, service.classifier(chosen))

    gr.on(
        [ask.click, picture.change, labels.submit, template.submit],
        answer,
        asked := [picture, labels, template, chosen],
        outputs,
        concurrency_id=QUEUE,
        api_visibility="private",
        trigger_mode="always_last",
    )

    def arrived(request: gr.Request) -> tuple[str, str, object]:
        wanted = request.query_params.get("comparison", "") or service.default()
        names = service.comparisons()
        several = len(names) > 1
        said = "" if several and wanted in names else _models(wanted)
        return wanted or "", said, gr.update(choices=names, value=wanted if wanted in names else None, visible=several)

    gr.on(None, arrived, None, [chosen, models, menu], queue=False, api_visibility="private")
    menu.input(lambda name: (name or "", ""), menu, [chosen, models], queue=False, api_visibility="private").then(
        answer, asked, outputs, concurrency_id=QUEUE, api_visibility="private"
    )
    if flags:
        _flagging(service, flags, picture, chosen, result)


def _models(comparison: str | None) -> str:
    return f"Models of comparison {plain(comparison)}" if comparison else "The built-in base model answers alone."


def shown(found: Result, classifier: Classifier) -> list[object]:
    """Values of the result, the sentence, the doubt, and the three components of each model's column."""
    strange = found.familiar is False
    parts: list[object] = [
        found.plain(),
        f"### {plain(found.agreement)}",
        gr.update(value=f"⚠️ {doubt(classifier)}" if strange else "", visible=strange),
    ]
    looks = {model.id: model.look for model in classifier.models}
    answers = found.answers[:SHOWN_MODELS]
    for answer in answers:
        chances = {one.label: one.probability for one in answer.labels}
        near = "".join(f"\n- {plain(one.text[:160])} ({one.score:.2f})" for one in answer.captions)
        captions = f"**Nearest training captions**\n{near}" if near else ""
        parts += [gr.update(visible=True), gr.update(value=chances, label=looks[answer.model].signed), captions]
    return parts + _no_columns(SHOWN_MODELS - len(answers))


def _no_columns(count: int) -> list[object]:
    return [gr.update(visible=False), gr.update(value=None), ""] * count


def plain(text: str) -> str:
    """The text as Markdown shows it literally."""
    return "".join(f"&#{ord(c)};" if c in "\\`*_{}[]()<>#+!|$&~:.@" else c for c in text)


def _examples(service: Service, picture: Picture) -> None:
    gr.Markdown(f"### Examples\n{_SYNTHETIC}")
    folder = temporary() / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    with gr.Row(elem_classes="examples"):
        for name, data in drawn_examples(service.workspace, service.default(), EXAMPLES).items():
            path = folder / name
            path.write_bytes(data)
            word = Path(name).stem.capitalize()
            with gr.Column(min_width=90):
                source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
                gr.HTML(f'<img src="{source}" alt="{word}, drawn">', elem_classes="example")
                gr.Button(word, size="sm").click(
                    lambda path=path: str(path), None, picture, queue=False, api_visibility="private"
                )


def _flagging(service: Service, flags: Flags, picture: Picture, chosen: gr.State, result: gr.State) -> None:
    with gr.Accordion("Flag this answer", open=False):
        gr.Markdown("Noted in a file on this computer. The picture is kept only if you say so.")
        label = gr.Textbox("", label="What it should be", max_length=200)
        comment = gr.Textbox("", label="Comment", max_length=1000)
        keep = gr.Checkbox(False, label="Keep the picture too")
        noted = gr.Markdown()

        def flag(given: tuple | None, chosen: str, result: dict | None, label: str, comment: str, keep: bool) -> str:
            with own_errors(service.workspace):
                if result is None:
                    raise BadSettings("there is no answer yet: ask the models first")
                data = given[1] if keep and given else None
                return f"Noted: {flags.add(result, chosen, label, comment, data):,} so far."

        gr.Button("Flag").click(
            flag,
            [picture, chosen, result, label, comment, keep],
            noted,
            concurrency_id=QUEUE,
            api_visibility="private",
        )
