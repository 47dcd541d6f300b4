import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import clipdemo
from clipdemo.appearance import appearances
from clipdemo.comparison import compare, load_predictions
from clipdemo.errors import WorkspaceError
from clipdemo.evaluation import RetrievalRanks, predictions_frame, retrieval_of
from clipdemo.images import encode_png
from clipdemo.interpolation import Hits, Interpolation, interpolation_id
from clipdemo.interpolation import Point as MixPoint
from clipdemo.leaderboard import leaderboard, per_class
from clipdemo.marks import set_mark
from clipdemo.records import SPLITS, CleaningReport, DroppedRows, Evaluation, RunConfig, SampleConfig
from clipdemo.reporting import images, report_files, report_html, report_zip, write_report
from clipdemo.sampling import MANIFEST_COLUMNS, content_hash, load_sample, sample_id
from clipdemo.sweep import Point as SweepPoint
from clipdemo.sweep import SweepConfig, SweepResult
from clipdemo.training.runs import load_run
from clipdemo.workspace import write_json
from tests.workspace_factory import disc, make_run

CLASSES = ("Hand", "Knee", "Skull")
HOSTILE = (
    "</script><img src=x onerror=\"document.title='broken'\">",
    "<b>bold</b> <a href='https://example.invalid'>%{y} $x^2$ &amp;</a>",
    "=HYPERLINK(\"https://example.invalid\")",
)  # fmt: skip
TEST = 30
CHOSEN = {"base": 10, "captions": 18, "labels": 24}  # of the test pictures: right


def make_sample(workspace, classes=CLASSES):
    """12 training, 12 validation and 30 test pictures; without classes of captions only."""
    labels = classes or ("",)
    sizes = dict(zip(SPLITS, (12, 12, TEST), strict=True))
    config = SampleConfig(samples=54, train=0.3, validation=0.2, test=0.5)
    rows, i = [], 0
    for split, n in sizes.items():
        for own in range(n):
            rows.append({"id": f"picture_{i:02d}", "split": split, "label": labels[own % len(labels)],
                         "caption": f"caption {i}", "modality": "", "group": "", "image": f"{i:08d}.png",
                         "pixels": f"{i:016x}", "tokens": 5})  # fmt: skip
            i += 1
    manifest = pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
    report = CleaningReport(
        rows=100, dropped=[DroppedRows(reason="label is empty", count=6, examples=["<i>secret example</i>"])],
        sampled=54, not_drawn=40, relabelled=0, source_classes=dict.fromkeys(classes, 30) if classes else {},
        split_classes={split: manifest[manifest["split"] == split]["label"].value_counts().to_dict() for split in SPLITS},
    )  # fmt: skip
    with workspace.new_folder("samples", sample_id(config)) as folder:
        (folder / "images").mkdir()
        for i, row in enumerate(rows):
            (folder / "images" / row["image"]).write_bytes(encode_png(disc(i)))
        manifest.to_parquet(folder / "manifest.parquet")
        write_json(folder / "sample.json", {
            "config": config.model_dump(mode="json"), "content_hash": content_hash(manifest), "classes": list(classes),
            "synthetic": True, "texts": ["captions", "labels"] if classes else ["captions"],
            "origin": {"made by": "a <test>"}, "report": report.model_dump(mode="json"),
        })  # fmt: skip
    return load_sample(workspace, sample_id(config))


def make_evaluation(workspace, sample, name, run=None):
    """Scores that put the first `CHOSEN` test pictures right, the others one class further."""
    rng = np.random.default_rng(CHOSEN[name])
    frames = {}
    for split in ("test", "validation"):
        rows = sample.rows(split)
        scores = rng.normal(0, 0.05, (len(rows), len(sample.classes))).astype(np.float32)
        for i, label in enumerate(rows["label"] if sample.classes else ()):
            scores[i, (sample.classes.index(label) + (i >= CHOSEN[name])) % len(sample.classes)] += 0.5
        places = np.arange(len(rows))
        captions = RetrievalRanks(places, np.where(places < CHOSEN[name] // 2, 0, 7), np.where(places < 5, 0, 3))
        frames[split] = predictions_frame(
            rows["id"], rows["label"], scores, sample.classes, captions if split == "test" else None
        )
    found = Evaluation(
        name=name, run=run.id if run else None, base="builtin", sample=sample.id, sample_hash=sample.content_hash,
        template="A picture of {label}", predictions=f"{name}-1", n=TEST, logit_scale=12.5, validation_logit_scale=20.25,
        retrieval=retrieval_of(frames["test"]),
        **({"top1": CHOSEN[name] / TEST, "top3": 1.0} if sample.classes else {}),
    )  # fmt: skip
    with workspace.new_folder("evaluations", found.predictions) as folder:
        frames["test"].to_parquet(folder / "predictions.parquet")
        frames["validation"].to_parquet(folder / "validation.parquet")
        write_json(folder / "evaluation.json", found.model_dump(mode="json"))
    return found


def make_comparison(workspace, classes=CLASSES, run_name=""):
    sample = make_sample(workspace, classes)
    found = [make_evaluation(workspace, sample, "base")]
    for mode in ("captions", "labels") if classes else ("captions",):
        run = make_run(workspace, sample, RunConfig(mode=mode, epochs=5, learning_rate=0.00021))
        run.rename(run_name)
        found.append(make_evaluation(workspace, sample, mode, run))
    return compare(found, workspace)


@pytest.fixture
def comparison(workspace):
    return make_comparison(workspace)


class Page(HTMLParser):
    """What a page refers to, its text outside of scripts, and its pictures."""

    def __init__(self, page):
        super().__init__()
        self.references, self.words, self.pictures, self.inside = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.references += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "poster", "style")]
        self.pictures += [dict(attrs)["src"] for _ in [0] if tag == "img"]

    def handle_data(self, data):
        if self.inside == "style":
            assert "url(" not in data and "@import" not in data and "@font-face" not in data
        if self.inside not in ("script", "style"):
            self.words.append(data)

    def handle_endtag(self, tag):
        self.inside = ""

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def files(workspace, comparison, **options):
    return dict(report_files(workspace, comparison, **options))


def table(found, name):
    return pd.read_csv(io.BytesIO(found[name]))


def test_the_page_refers_to_nothing_outside_of_it(workspace, comparison):
    page = Page(report_html(workspace, comparison))
    assert page.references
    assert [r for r in page.references if not r.startswith(("data:", "width"))] == []


def test_the_page_says_numbers_settings_commands_and_hashes(workspace, comparison):
    text = Page(report_html(workspace, comparison)).text
    predictions = {m.predictions: load_predictions(workspace, m) for m in comparison.models}
    for standing in leaderboard(comparison, predictions).standings:
        assert standing.sentence in text
        assert f"{100 * standing.top1.value:.1f} % ({100 * standing.top1.low:.1f} to" in text
    assert "learning rate 0.00021 (default 0.0003)" in text
    assert "python -m clipdemo sample" in text or "python -m clipdemo experiment" in text
    file = workspace.folder("evaluations", "base-1") / "predictions.parquet"
    for digest in (comparison.sample_hash, hashlib.sha256(file.read_bytes()).hexdigest()):
        assert digest in text
    assert "Not for diagnosis" in text and "synthetic" in text and "Quoted from the paper" in text and "76.9 %" in text


def test_names_from_outside_stay_text(workspace):
    page = report_html(workspace, make_comparison(workspace, HOSTILE, "<script>alert(1)</script>"))
    assert page.count("<script") - page.count('"<script') >= 3
    body = page[: page.index('<script type="application/json"')]
    for evil in ("<img src=x", "<b>bold", "<script", "<i>secret", "<test>", "example.invalid'>"):
        assert evil not in body
    figures = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S).group(1)
    assert "<" not in figures
    assert "&lt;b&gt;bold" in json.dumps(json.loads(figures))  # entities, which Plotly shows as letters


def test_pictures_and_texts_of_the_source_can_be_left_out(workspace, comparison):
    whole, bare = (Page(report_html(workspace, comparison, pictures=p)) for p in (True, False))
    assert len(whole.pictures) == 12 and all(p.startswith("data:image/jpeg;base64,") for p in whole.pictures)
    assert bare.pictures == [] and "Pictures were left out of this report on request" in bare.text
    assert "secret example" in whole.text and "secret example" not in bare.text
    assert b"secret example" in files(workspace, comparison)["cleaning.csv"]
    assert b"secret example" not in b"".join(files(workspace, comparison, pictures=False).values())


def test_marked_pictures_count_nowhere_and_are_listed(workspace, comparison):
    gone = {"picture_24", "picture_30", "no such picture"}
    text = Page(report_html(workspace, comparison, without=gone)).text
    assert "2 test pictures marked as wrongly labelled were left out of all numbers here, and 28 count" in text
    assert "Left out: picture_24, picture_30." in text
    found = files(workspace, comparison, without=gone)
    assert set(table(found, "leaderboard.csv")["n"]) == {28}
    predictions = table(found, "predictions.csv")
    assert set(predictions[predictions["counts"] == 0]["id"]) == {"picture_24", "picture_30"}
    assert len(predictions) == 3 * TEST
    confusion = table(found, "confusion-base-1.csv")
    assert confusion.drop(columns="true class").to_numpy().sum() == 28
    assert "28" in text and set(table(found, "flips.csv").drop(columns=["model", "base"]).sum(axis=1)) == {28}


def test_every_number_can_be_computed_again_from_the_files(workspace, comparison):
    found = files(workspace, comparison)
    predictions = table(found, "predictions.csv")
    frames = {}
    for model, own in predictions.groupby("model", sort=False):
        frame = own.drop(columns=["model", "title", "logit_scale", "validation_logit_scale", "counts"])
        scores = [c for c in frame if c.startswith("score: ")]
        frames[model] = frame.astype(dict.fromkeys(scores, np.float32)).reset_index(drop=True)
        kept = load_predictions(workspace, next(m for m in comparison.models if m.predictions == model))
        assert np.array_equal(frames[model][scores].to_numpy(), kept[scores].to_numpy())
    again = leaderboard(comparison, frames).frame()
    pd.testing.assert_frame_equal(
        table(found, "leaderboard.csv"),
        again.replace({"base": {"": np.nan}, "verdict": {"": np.nan}}),
        check_dtype=False,
    )
    classes = table(found, "per_class.csv").drop(columns="title")
    pd.testing.assert_frame_equal(classes, per_class(comparison, frames), check_dtype=False)
    assert len(table(found, "validation.csv")) == 3 * 12


def test_cleaning_adds_up_in_the_files(workspace, comparison):
    rows = table(files(workspace, comparison), "cleaning.csv")["rows"]
    assert rows[0] == rows[1:].sum() == 100


def test_a_formula_never_stands_at_the_start_of_a_cell(workspace):
    found = files(workspace, make_comparison(workspace, ("=1+1", "+A", "-B", "@C", "'D", "\tE")))
    cells = [
        c
        for name in found
        if name.endswith(".csv")
        for row in csv.reader(io.StringIO(found[name].decode()))
        for c in row
    ]
    numbers = re.compile(r"[+-]?(\d|inf)")
    assert [c for c in cells if c.startswith(tuple("=+-@\t\r")) and not numbers.match(c)] == []
    labels = set(table(found, "per_class.csv")["class"])
    assert {label.removeprefix("'") for label in labels} == {"=1+1", "+A", "-B", "@C", "'D", "\tE"}


def test_every_column_is_explained(workspace, comparison):
    found = files(workspace, comparison)
    readme = found["README.txt"].decode()
    for name in (n for n in found if n.endswith(".csv")):
        part = readme.partition(f"\n{name}\n")[2].split("\n\n")[0]
        said = [line.strip().partition(": ")[0] for line in part.splitlines()[1:]]
        said = [
            line.strip().rpartition("*: ")[0] + "*" if "*: " in line else s
            for line, s in zip(part.splitlines()[1:], said, strict=True)
        ]
        for column in table(found, name):
            assert any(column == s or (s.endswith("*") and column.startswith(s[:-1])) for s in said), (name, column)


def test_the_checksums_are_those_of_the_files(workspace, comparison):
    found = files(workspace, comparison)
    sums = dict(reversed(line.split("  ")) for line in found["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in found.items() if name != "SHA256SUMS"}


def test_the_zip_holds_the_files_in_one_folder(workspace, comparison):
    with zipfile.ZipFile(io.BytesIO(report_zip(workspace, comparison))) as archive:
        names = set(archive.namelist())
    assert names == {f"{comparison.id}/{name}" for name in files(workspace, comparison)}


def test_a_sweep_and_an_interpolation_of_this_sample_are_in_it_and_others_are_not(workspace, comparison):
    sample = load_sample(workspace, comparison.sample)
    bits = {True: np.packbits(np.ones(TEST, bool)), False: np.packbits(np.zeros(TEST, bool))}
    points = [
        SweepPoint(kind=kind, pictures=size, seed=0, run=f"{kind}-{size}", evaluation="e", n=TEST,
                   right=TEST * (size == 12), bits=bits[size == 12].tobytes().hex())
        for kind in ("captions", "labels") for size in (6, 12)
    ]  # fmt: skip
    config = SweepConfig(sample=sample.id, sizes=(6, 12), seeds=(0,))
    for name, digest in (("sweep-own", sample.content_hash), ("sweep-other", "0")):
        found = SweepResult(
            id=name, sample=sample.id, sample_hash=digest, synthetic=True, config=config, total=4, points=points
        )
        workspace.folder("sweeps", name).mkdir()
        write_json(workspace.folder("sweeps", name) / "sweep.json", found.model_dump(mode="json"))
    run = load_run(workspace, comparison.models[1].run)
    key = interpolation_id(run, sample)
    mixes = [MixPoint(share=s, validation=Hits(right=r, n=12), test=Hits(right=9, n=30), general=Hits(right=1, n=2))
             for s, r in ((0, 3), (0.5, 9), (1, 6))]  # fmt: skip
    way = Interpolation(id=key, run=run.id, base="builtin", sample=sample.id, sample_hash=sample.content_hash,
                        template="a {label}", choices="labels", general_set="made up", points=mixes)  # fmt: skip
    workspace.folder("interpolations", key).mkdir()
    write_json(workspace.folder("interpolations", key) / "interpolation.json", way.model_dump(mode="json"))
    page = report_html(workspace, comparison)
    assert "Captions of 12 pictures give as much top-1 as labels on about 12" in Page(page).text
    assert "share 0.5 is best on validation pictures, 75.0 % of 12." in Page(page).text
    assert 'id="plot-sweep-own"' in page and "sweep-other" not in page and 'id="plot-interpolation-captions-1"' in page
    found = files(workspace, comparison)
    assert table(found, "sweep-own.csv")["right"].tolist() == [0, 30, 0, 30]
    assert table(found, "interpolation-captions-1.csv")["validation_right"].tolist() == [3, 9, 6]


def test_a_report_outlives_its_sample_and_its_runs(workspace, comparison):
    workspace.delete("samples", comparison.sample)
    for run in comparison.runs:
        workspace.delete("runs", run)
    text = Page(report_html(workspace, comparison)).text
    assert "The sample was deleted" in text and "The runs were deleted" in text and "picture is gone" in text
    assert "cleaning.csv" not in files(workspace, comparison)


def test_captions_without_labels_have_a_report_of_their_own(workspace):
    comparison = make_comparison(workspace, ())
    text = Page(report_html(workspace, comparison)).text
    assert "finding a picture's own caption first: Captions" in text
    assert "Is a model as often right as it says?" not in text
    assert not {"per_class.csv", "flips.csv", "calibration.csv"} & set(files(workspace, comparison))


def test_a_report_of_no_pictures_at_all_says_so(workspace, comparison):
    everything = set(load_predictions(workspace, comparison.models[0])["id"])
    assert "No test picture is left that counts" in Page(report_html(workspace, comparison, without=everything)).text


def test_more_classes_than_a_page_holds_get_several_charts(workspace):
    page = report_html(workspace, make_comparison(workspace, tuple(f"Class {i:02d}" for i in range(30))))
    assert 'id="plot-per-class-3"' in page and "part 3 of 3" in page


def test_a_folder_is_replaced_only_where_it_holds_a_report(workspace, comparison, tmp_path):
    out = tmp_path / "there" / "report"
    first = write_report(workspace, comparison, out)
    assert first.page == out / "report.html" and first.problem == ""
    assert first.bytes == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    write_report(workspace, comparison, out, pictures=False)
    assert "on request" in Page((out / "report.html").read_text()).text
    assert [p.name for p in out.parent.iterdir()] == ["report"]
    (out / "mine.txt").write_text("kept")
    with pytest.raises(WorkspaceError, match=r"holds an earlier report and 'mine.txt'"):
        write_report(workspace, comparison, out)
    with pytest.raises(WorkspaceError, match="and no report"):
        write_report(workspace, comparison, workspace.root)
    with pytest.raises(WorkspaceError, match="is a file"):
        write_report(workspace, comparison, out / "mine.txt")
    assert (out / "mine.txt").read_text() == "kept"


def test_without_a_browser_the_rest_is_written_and_says_why(workspace, comparison, monkeypatch):
    chromium = pytest.importorskip("choreographer.browsers.chromium").Chromium
    monkeypatch.setattr(chromium, "find_browser", classmethod(lambda *_, **__: None))
    found = files(workspace, comparison, charts=("svg",))
    assert "there is no Chromium or Chrome on this machine" in found["README.txt"].decode()
    assert "report.html" in found and not any(name.startswith("charts/") for name in found)


@pytest.mark.browser
def test_charts_are_drawn_as_svg_and_png(workspace):
    if images._cannot():
        pytest.skip(images._cannot())
    found = files(workspace, make_comparison(workspace, HOSTILE), charts=("svg", "png"))
    charts = {name: data for name, data in found.items() if name.startswith("charts/")}
    assert {
        "charts/top1.svg",
        "charts/per-class.png",
        "charts/confusion-base-1.svg",
        "charts/training-loss.png",
    } <= set(charts)
    assert all(data.startswith(b"<svg" if name.endswith("svg") else b"\x89PNG") for name, data in charts.items())
    assert len([n for n in charts if n.endswith("svg")]) == len([n for n in charts if n.endswith("png")])
    assert b"<img" not in b"".join(data for name, data in charts.items() if name.endswith("svg"))


def test_the_command_line_writes_a_folder_without_importing_torch(workspace, comparison, tmp_path):
    set_mark(workspace, comparison, "picture_24", True)
    code = (
        "import sys; from clipdemo.cli import app\n"
        f"app(['report', {comparison.id!r}, '--out', 'out', '--without-marked', '--workspace', {str(workspace.root)!r}],"
        " standalone_mode=False)\n"
        "print([m for m in ('torch', 'open_clip', 'streamlit', 'gradio', 'sklearn', 'kaleido') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(clipdemo.__file__).parent.parent)},
    )
    assert run.returncode == 0, run.stderr
    page, heavy = run.stdout.split("\n")[-3:-1]
    assert page == str(tmp_path / "out" / "report.html"), run.stderr
    assert heavy == "[]"
    assert "Left out: picture_24." in Page((tmp_path / "out" / "report.html").read_text()).text


def test_models_have_their_own_names_in_the_files(workspace, comparison):
    titles = {look.title for look in appearances(comparison).values()}
    assert set(table(files(workspace, comparison), "predictions.csv")["title"]) == titles
