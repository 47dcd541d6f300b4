"""The classifier as a Gradio app: a page for people, named endpoints for programs, one queue for both.

What touches the disk: Gradio writes an uploaded file into a private folder (`_temporary`), readable by this user only.
A program's file is deleted as soon as it is read, before the answer; one of the page after `KEPT_SECONDS` at most,
for it is shown there; all of them when the process ends. What a killed process leaves is deleted by the next one.
A picture sent as a data URL never touches the disk. Flags are kept in the workspace, with the picture only if asked to.

Gradio takes seconds to import, so nothing here imports it before somebody asks for the app.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import binascii
import csv
import io
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from clipdemo import opened
from clipdemo.appearance import NOT_FOR_DIAGNOSIS
from clipdemo.errors import BadSettings, ClipDemoError, PictureError, WorkspaceError
from clipdemo.examples import drawn_examples
from clipdemo.hosting import policy
from clipdemo.images import TOO_LARGE
from clipdemo.spreadsheets import harmless
from clipdemo.workspace import Workspace, atomic_write, disk_errors

if TYPE_CHECKING:
    import gradio as gr

    from clipdemo.classify import Classifier, Result

MAX_WAITING = 20  # calls in the queue; one more is refused with status 503
MAX_UPLOAD_BYTES = 32 * 2**20
MAX_NEAREST = 100
KEPT_SECONDS = 600  # at most, of a picture that is open on the page
MOST_FLAGS = 10_000
SHOWN_MODELS = 8
EXAMPLES = 6
_QUEUE = "models"  # one for all endpoints, so that calls are answered in order of arrival
_SYNTHETIC = "These pictures are synthetic: drawn by this program, of nobody."
_FLAG_COLUMNS = ("time", "comparison", "picture", "said", "should be", "comment", "file")
_CSS = """
.example img {width: 100%; border-radius: 8px; display: block}
.example {padding: 0 !important}
footer {opacity: .8}
@media (max-width: 640px) {.examples {display: grid !important; grid-template-columns: repeat(3, 1fr)} 
.examples > * {min-width: 0 !important}}
"""


# ---- what endpoints answer; nothing of Gradio


class Service:
    """The three answers as plain values, of the comparison asked for, else the one fixed, else the newest."""

    def __init__(self, workspace: Workspace, comparison: str | None = None) -> None:
        self.workspace, self.comparison = workspace, comparison

    def classifier(self, comparison: str = "") -> Classifier:
        """Opened at the first call, and shared by all. Raises `ClipDemoError`."""
        wanted = (comparison or "").strip() or self.comparison or opened.newest(self.workspace)
        return opened.classifier(self.workspace, wanted)

    def classify(self, name: str, data: bytes, labels: str = "", template: str = "", comparison: str = "") -> Result:
        """What each model says to the picture in a file's bytes; `labels` are divided by commas."""
        from clipdemo.classify import classify, typed
        from clipdemo.drop import dropped_picture

        found = typed(self.classifier(comparison), labels or "", template or "")  # JSON's null is no text
        return classify(found, [dropped_picture(data, name, found.sizes)])[0]

    def embed_image(self, name: str, data: bytes, comparison: str = "") -> list[dict[str, object]]:
        """Each model's vector of the picture, of unit length."""
        from clipdemo.classify import embed_images
        from clipdemo.drop import dropped_picture

        found = self.classifier(comparison)
        picture = dropped_picture(data, name, found.sizes)
        return [self._of(m) | {"vector": embed_images(m, [picture])[0].tolist()} for m in found.models]

    def embed_text(self, text: str, comparison: str = "") -> list[dict[str, object]]:
        """Each model's vector of the text, of unit length."""
        from clipdemo.classify import embed_text

        return [
            self._of(m) | {"vector": embed_text(m, text or "").tolist()} for m in self.classifier(comparison).models
        ]

    def nearest_texts(self, name: str, data: bytes, k: float = 3, comparison: str = "") -> list[dict[str, object]]:
        """The `k` training captions that each model finds nearest to the picture, with their cosines."""
        from clipdemo.classify import embed_images, nearest_captions
        from clipdemo.drop import dropped_picture

        if k is None or not 1 <= k <= MAX_NEAREST or int(k) != k:
            raise BadSettings(f"k = {k}: ask for 1 to {MAX_NEAREST} texts")
        found = self.classifier(comparison)
        picture = dropped_picture(data, name, found.sizes)
        near = [nearest_captions(m, embed_images(m, [picture]), int(k))[0] for m in found.models]
        return [
            self._of(m) | {"texts": [{"text": one.text, "score": one.score} for one in texts]}
            for m, texts in zip(found.models, near, strict=True)
        ]

    @staticmethod
    def _of(model: object) -> dict[str, object]:
        return {"model": model.id, "title": model.look.title}


# ---- flags


class Flags:
    """Answers that somebody found worth noting, in `flagged/flags.csv` of the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self.folder = workspace, workspace.root / "flagged"

    def add(self, result: dict[str, Any], comparison: str, label: str, comment: str, picture: bytes | None) -> int:
        """Appends a row and returns how many there are. `picture` is kept, less all that is not pixels, if given."""
        from clipdemo.images import storable

        file = ""
        with disk_errors(self.folder), self._workspace.lock("flags"):
            self.folder.mkdir(exist_ok=True)
            path = self.folder / "flags.csv"
            before = path.read_text(encoding="utf-8") if path.exists() else _csv_line(_FLAG_COLUMNS)
            count = sum(1 for _ in csv.reader(io.StringIO(before)))  # with the header: as many as there will be rows
            if count > MOST_FLAGS:
                raise WorkspaceError(f"{path} has {MOST_FLAGS:,} rows: move it away to note more")
            if picture is not None:
                bare, suffix, _ = storable(picture, "the picture")
                file = sha256(bare).hexdigest()[:16] + suffix
                atomic_write(self.folder / file, bare)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            row = (now, comparison, result["name"], result["agreement"], label[:200], comment[:1000], file)
            atomic_write(path, (before + _csv_line(row)).encode())
        return count


def _csv_line(values: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([harmless(value) for value in values])
    return line.getvalue()


# ---- the disk

_held: list[FileLock] = []  # for as long as the process lives


@cache
def _temporary() -> Path:
    """A private folder of this process. It goes with the process, or when the next one finds its lock free."""
    root = Path(tempfile.gettempdir())
    for left in root.glob("clipdemo-gradio-*"):
        try:
            with FileLock(left / "alive", timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except (Timeout, OSError):  # somebody uses it, or it is another user's
            continue
    folder = Path(tempfile.mkdtemp(prefix="clipdemo-gradio-"))
    _held.append(lock := FileLock(folder / "alive"))
    lock.acquire()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def uploads_folder() -> Path:
    """Where Gradio writes what is sent to it."""
    return _temporary() / "uploads"


@asynccontextmanager
async def _tidied(app: Any) -> AsyncIterator[None]:
    """Deletes the folder when the server stops: a signal ends the process without its `atexit`."""
    inside = next(route.app for route in app.routes if hasattr(getattr(route, "app", None), "stop_event"))
    with _told_to_stop(inside.stop_event):
        yield
    shutil.rmtree(_temporary(), ignore_errors=True)


@contextmanager
def _told_to_stop(event: asyncio.Event) -> Iterator[None]:
    """Sets the event at the signals that end a server, which waits for open pages to hang up before it ends anything.

    Gradio ends its pages' connections at this event, and sets it itself only where its own server runs.
    """
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(event.set)
        signal.signal(number, before[number])
        if callable(before[number]):
            before[number](number, frame)
        else:
            signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.getsignal(number)
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


def _gradio() -> Any:
    """Gradio, told before it is imported to write nowhere else and to tell nobody."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads_folder())
    import gradio

    return gradio


@cache
def _picture_component() -> type:
    gr = _gradio()
    from gradio import component_meta

    component_meta.create_or_modify_pyi = lambda *_: None  # Gradio would write a .pyi beside this file

    class Picture(gr.Image):
        """An image whose file comes as it is: `images.decode` opens it, not Gradio."""

        is_template = True  # for the browser it is an Image

        def preprocess(self, payload: Any) -> tuple[str, bytes, Path | None] | None:
            if payload is None:
                return None
            if (payload.url or "").startswith("data:"):
                return (*_from_data_url(payload.url), None)
            path = Path(payload.path or "").resolve()
            if not path.is_relative_to(_temporary()):
                raise gr.Error("the picture has to be uploaded, or sent as a data URL", print_exception=False)
            try:
                return payload.orig_name or path.name, path.read_bytes(), path
            except FileNotFoundError:
                raise gr.Error("the picture is not there any more: give it again", print_exception=False) from None

        async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
            if not Path(url_or_file_path or "").resolve().is_relative_to(_temporary()):
                said = "addresses and files of the server are not opened: upload the picture itself"
                raise gr.Error(said, print_exception=False)
            return await super().async_move_resource_to_block_cache(url_or_file_path)

    return Picture


def _from_data_url(url: str) -> tuple[str, bytes]:
    """A name and the bytes of "data:image/png;base64,..."."""
    gr = _gradio()
    if len(url) > MAX_UPLOAD_BYTES * 4 // 3 + 200:
        most = MAX_UPLOAD_BYTES // 2**20
        raise gr.Error(f"the picture is {TOO_LARGE}: at most {most} MiB are taken", print_exception=False)
    try:
        return "picture", base64.b64decode(url.partition(";base64,")[2], validate=True)
    except binascii.Error:
        raise gr.Error("the data URL is no base64: write data:image/png;base64,...", print_exception=False) from None


@contextmanager
def _said() -> Iterator[None]:
    """What a reader can mend as Gradio's own error, with its one line."""
    try:
        yield
    except ClipDemoError as error:
        title = "This picture cannot be used" if isinstance(error, PictureError) else "This cannot be answered"
        raise _gradio().Error(str(error), title=title, print_exception=False) from None


# ---- the app


def build(workspace: Workspace, comparison: str | None = None, flagging: bool = True) -> gr.Blocks:
    """The page with its endpoints. Opens no model. Flagging is off on a hosted server, whatever is asked."""
    gr = _gradio()
    service = Service(workspace, comparison)
    with gr.Blocks(title="clipdemo · classify", analytics_enabled=False, delete_cache=(30, KEPT_SECONDS)) as demo:
        flags = Flags(workspace) if flagging and not policy().hosted else None
        _page(service, flags)
        _endpoints(service)
    return demo.queue(default_concurrency_limit=1, max_size=MAX_WAITING, api_open=False)


def _page(service: Service, flags: Flags | None) -> None:
    gr = _gradio()
    gr.Markdown(f"# What do the models see?\n{NOT_FOR_DIAGNOSIS}")
    models = gr.Markdown()
    chosen, result = gr.State(""), gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            sources = ["upload", "clipboard", "webcam"]
            picture = _picture_component()(label="Picture", type="filepath", sources=sources, height=300)
            with gr.Accordion("Own labels and sentence", open=False):
                labels = gr.Textbox("", label="Labels, divided by commas", max_length=40_000)
                template = gr.Textbox(
                    value="", label="Sentence of a label", placeholder="a photo of {label}", max_length=300
                )
            ask = gr.Button("Ask the models", variant="primary")
        with gr.Column(scale=3, min_width=280):
            said = gr.Markdown("### Give a picture, or click an example.", min_height=60)
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
            return [None, "### Give a picture, or click an example.", gr.update(visible=False), *_no_columns()]
        with _said():
            found = service.classify(given[0], given[1], labels, template, chosen)
            return _shown(found, service.classifier(chosen))

    gr.on(
        [ask.click, picture.change, labels.submit, template.submit],
        answer,
        [picture, labels, template, chosen],
        outputs,
        concurrency_id=_QUEUE,
        api_visibility="private",
        trigger_mode="always_last",
    )

    def arrived(request: gr.Request) -> tuple[str, str]:
        wanted = request.query_params.get("comparison", "") or service.comparison or opened.newest(service.workspace)
        return wanted or "", f"Models of comparison `{wanted}`" if wanted else "The built-in base model answers alone."

    arrived.__annotations__["request"] = gr.Request
    gr.on(None, arrived, None, [chosen, models], queue=False, api_visibility="private")
    if flags:
        _flagging(flags, picture, chosen, result)


def _shown(found: Result, classifier: Classifier) -> list[object]:
    gr = _gradio()
    doubt = "⚠️ **None of these** may be right: the sample has no picture like this one."
    parts: list[object] = [
        found.plain(),
        f"### {plain(found.agreement)}",
        gr.update(value=doubt, visible=found.familiar is False),
    ]
    looks = {model.id: model.look for model in classifier.models}
    for answer in found.answers[:SHOWN_MODELS]:
        chances = {one.label: one.probability for one in answer.labels}
        near = "".join(f"\n- {plain(one.text[:160])} ({one.score:.2f})" for one in answer.captions)
        title = looks[answer.model].signed
        captions = f"**Nearest training captions**\n{near}" if near else ""
        parts += [gr.update(visible=True), gr.update(value=chances, label=title), captions]
    return parts + _no_columns(SHOWN_MODELS - min(SHOWN_MODELS, len(found.answers)))


def _no_columns(count: int = SHOWN_MODELS) -> list[object]:
    gr = _gradio()
    return [gr.update(visible=False), gr.update(value=None), ""] * count


def plain(text: str) -> str:
    """The text as Markdown shows it literally."""
    return "".join(f"&#{ord(c)};" if c in "\\`*_{}[]()<>#+!|$&~" else c for c in text)


def _examples(service: Service, picture: object) -> None:
    gr = _gradio()
    gr.Markdown(f"### Examples\n{_SYNTHETIC}")
    folder = _temporary() / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    with gr.Row(elem_classes="examples"):
        comparison = service.comparison or opened.newest(service.workspace)
        for name, data in drawn_examples(service.workspace, comparison, EXAMPLES).items():
            path = folder / name
            path.write_bytes(data)
            word = Path(name).stem.capitalize()
            with gr.Column(min_width=90):
                source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
                gr.HTML(f'<img src="{source}" alt="{word}, drawn">', elem_classes="example")
                gr.Button(word, size="sm").click(
                    lambda path=path: str(path), None, picture, queue=False, api_visibility="private"
                )


def _flagging(flags: Flags, picture: object, chosen: object, result: object) -> None:
    gr = _gradio()

    class Logger(gr.FlaggingCallback):
        def setup(self, components: list, flagging_dir: str) -> None:
            """Nothing: `Flags` has its folder."""

        def flag(self, flag_data: list, flag_option: str | None = None, username: str | None = None) -> int:
            return flags.add(*flag_data)

    logger = Logger()
    with gr.Accordion("Flag this answer", open=False):
        gr.Markdown("Noted in a file on this computer. The picture is kept only if you say so.")
        label = gr.Textbox("", label="What it should be", max_length=200)
        comment = gr.Textbox("", label="Comment", max_length=1000)
        keep = gr.Checkbox(False, label="Keep the picture too")
        noted = gr.Markdown()

        def flag(given: tuple | None, chosen: str, result: dict | None, label: str, comment: str, keep: bool) -> str:
            with _said():
                if result is None:
                    raise BadSettings("there is no answer yet: ask the models first")
                data = given[1] if keep and given else None
                return f"Noted: {logger.flag([result, chosen, label, comment, data]):,} so far."

        gr.Button("Flag").click(
            flag,
            [picture, chosen, result, label, comment, keep],
            noted,
            concurrency_id=_QUEUE,
            api_visibility="private",
        )


def _endpoints(service: Service) -> None:
    """What programs call. Components give them their names and defaults, and are never seen."""
    gr = _gradio()
    with gr.Column(visible=False):
        image = _picture_component()(type="filepath", label="image")
        text, k = gr.Textbox(label="text"), gr.Number(3, label="k", precision=0)
        labels, template = gr.Textbox("", label="labels"), gr.Textbox("", label="template")
        comparison, out = gr.Textbox("", label="comparison"), gr.JSON(label="answer")

        def classify(image: tuple | None, labels: str = "", template: str = "", comparison: str = "") -> dict:
            """What each model says to a picture. `labels` are divided by commas; empty, the sample's classes."""
            return _once(image, lambda name, data: service.classify(name, data, labels, template, comparison).plain())

        def embed_image(image: tuple | None, comparison: str = "") -> list:
            """Each model's vector of a picture, of unit length."""
            return _once(image, lambda name, data: service.embed_image(name, data, comparison))

        def embed_text(text: str, comparison: str = "") -> list:
            """Each model's vector of a text, of unit length."""
            with _said():
                return service.embed_text(text, comparison)

        def nearest_texts(image: tuple | None, k: float = 3, comparison: str = "") -> list:
            """The training captions nearest to a picture, with their cosines."""
            return _once(image, lambda name, data: service.nearest_texts(name, data, k, comparison))

        for answer, inputs in (
            (classify, [image, labels, template, comparison]),
            (embed_image, [image, comparison]),
            (embed_text, [text, comparison]),
            (nearest_texts, [image, k, comparison]),
        ):
            gr.Button().click(answer, inputs, out, api_name=answer.__name__, concurrency_id=_QUEUE)


def _once(given: tuple | None, answer: Callable[[str, bytes], object]) -> Any:
    """A program's answer; its file is deleted before."""
    with _said():
        if given is None:
            raise BadSettings("there is no picture: send one as `image`")
        name, data, path = given
        if path is not None and path.is_relative_to(uploads_folder()):
            path.unlink(missing_ok=True)
            shutil.rmtree(path.parent, ignore_errors=True)
        return answer(name, data)


# ---- serving


def asgi(workspace: Workspace, comparison: str | None = None, root_path: str | None = None) -> Any:
    """The app for any ASGI server, with its lifespan, which has to be entered: without it no call is answered."""
    from fastapi import FastAPI

    gr = _gradio()
    sans = [gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")]
    mono = [gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")]
    theme = gr.themes.Soft(primary_hue="emerald", font=sans, font_mono=mono).set(
        button_primary_background_fill="#0B7A5E", button_primary_background_fill_dark="#149C78"
    )
    demo = build(workspace, comparison)
    app = gr.mount_gradio_app(
        FastAPI(lifespan=_tidied),
        demo,
        path="/",
        root_path=root_path,
        theme=theme,
        css=_CSS,
        max_file_size=MAX_UPLOAD_BYTES,
        footer_links=["api"],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )
    demo.has_launched = True  # else Gradio, mounted, checks no path and copies any file that a call names
    return app


class Mounted:
    """The app under a path of another server: imported and built when somebody first asks for it."""

    def __init__(self, root_path: str, workspace: Callable[[], Workspace] = Workspace) -> None:
        self._root_path, self._workspace = root_path, workspace
        self._app: Any = None
        self._living: asyncio.Task | None = None
        self._making: asyncio.Lock | None = None
        self._end: asyncio.Event | None = None

    @asynccontextmanager
    async def lifespan(self, _server: object) -> AsyncIterator[None]:
        """For the server's own lifespan: puts the app away at its end, if there is one."""
        self._making, self._end = asyncio.Lock(), asyncio.Event()
        yield
        self._end.set()
        if self._living is not None:
            await self._living
        self._app = self._living = None

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        from starlette.responses import PlainTextResponse

        try:
            app = await self._ready()
        except ClipDemoError as error:
            app = PlainTextResponse(str(error), status_code=503)
        await app(scope, receive, send)

    async def _ready(self) -> Any:
        async with self._making:
            if self._app is None:
                app = await asyncio.to_thread(lambda: asgi(self._workspace(), root_path=self._root_path))
                up = asyncio.Event()
                self._living = asyncio.create_task(self._live(app, up))
                await asyncio.wait(
                    [self._living, waiting := asyncio.ensure_future(up.wait())], return_when="FIRST_COMPLETED"
                )
                waiting.cancel()
                if self._living.done():
                    self._living.result()
                self._app = app
        return self._app

    async def _live(self, app: Any, up: asyncio.Event) -> None:
        """The app's own lifespan, from its beginning to its end in one task."""
        async with app.router.lifespan_context(app):
            up.set()
            await self._end.wait()
