"""A class on one hosted server: nobody sees what another chose, nothing fails, and memory stays where it is.

    python -m benchmarks.students --students 30 --minutes 10

Every student is a real session over a websocket that walks through the pages at a human pace: about five seconds from
an answer to the next click, pictures fetched once as a browser would, now and then a link opened in a new session. What
a student types, names and uploads holds a word that is nobody else's. All bytes that the server sends to a session are
searched for the other students' words, and what the page shows is compared with what this student chose: neighbours
of its own words, computed here as well; its own labels, file, picture, section and filter.

The workspace is real: 816 drawn pictures, two trained runs, their comparison, all indexes. The students share the
machine with the server, so latencies are those of a machine that does both. Memory is the server's resident memory with
its children's, every five seconds; the first minutes, in which models are opened and caches filled, are left out of its
slope. `MALLOC_ARENA_MAX=2 python -m benchmarks.students` tells a leak from scattered free memory.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil
import typer
from scipy.stats import linregress

from benchmarks.machine import keep
from clipdemo import opened
from clipdemo.embeddings import model_id
from clipdemo.experiment import run_experiment, runs_for
from clipdemo.images import encode_png
from clipdemo.neighbours import Neighbourhood, neighbourhood, pictures_of_text
from clipdemo.progress import finish
from clipdemo.records import Comparison, SampleConfig
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import load_run
from clipdemo.ui.data import matching
from clipdemo.ui.explore.thumbnails import PICTURES
from clipdemo.workspace import Workspace
from tools.serving import process_of, served, used_by
from tools.session import Session

PICTURES_DRAWN = 816
LOOK_SECONDS = 5.0  # between two looks at the server's memory
WARM_UP_MINUTES = 2.0
NEAR = re.compile(r"-?\d\.\d\d · .*")  # the line under a near picture, after the sign of one that is new
SECRET = re.compile(rb"(?=(zqx[a-z]{9}))")  # also one that another word runs into
MEDIA = re.compile(rb"/media/[0-9a-f]{32,}\.[a-z0-9]+")
HOSTED = {
    "CLIPDEMO_HOSTED": "1",
    "CLIPDEMO_TEACHER_CODE": "correct horse",
    "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "false",  # as in the image
}
SECTIONS = {
    "board": "Who wins", "classes": "Classes", "confusion": "Confusion", "pictures": "Pictures",
    "calibration": "Calibration", "prompts": "Prompt lab", "worth": "Worth of captions", "weights": "Weights",
    "report": "Report",
}  # fmt: skip


def main(
    students: int = 30, minutes: float = 10.0, seed: int = 0, pace: float = 5.0, workspace: Path | None = None
) -> None:
    """One class, from the first student's coming in to the bell; `pace`: mean seconds from an answer to the next click.

    What a given workspace lacks is made in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = _prepared(Workspace(workspace or Path(folder) / "workspace"))
        with served(place.workspace.root, **HOSTED) as address:
            result = _class(address, place, students, minutes, seed, pace)
    print(result)
    usual = "" if pace == 5.0 else f" --pace {pace:g}"
    keep("students", f"python -m benchmarks.students --students {students} --minutes {minutes:g}{usual}", result)


# ---- secrets


def secret_words(n: int, seed: int = 0) -> list[str]:
    """n different words of 12 letters that no page has by itself."""
    rng = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < n:
        words["zqx" + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=9))] = None
    return list(words)


def foreign_secrets(data: bytes, own: str, secrets: Collection[str]) -> set[str]:
    """Those of the secrets that stand anywhere in a message, in any case, but for one's own."""
    found = {word.decode() for word in SECRET.findall(data.lower())}
    return found & set(secrets) - {own}


# ---- what the class looks at


@dataclass(frozen=True)
class Place:
    """A workspace with one sample and one comparison; `spaces` are what its models see, in the page's order."""

    workspace: Workspace
    sample: Sample
    comparison: Comparison
    spaces: list[Neighbourhood]

    def near(self, words: str) -> list[str]:
        """The lines under the pictures that Explore shows for these words, model after model."""
        found = (near for space in self.spaces for near in pictures_of_text(space, words, PICTURES))
        return [f"{near.score:.2f} · {near.label}" for near in found]


def _prepared(workspace: Workspace) -> Place:
    config = SampleConfig(samples=PICTURES_DRAWN)
    comparison = finish(run_experiment(config, runs_for(config), workspace))
    sample, spaces = load_sample(workspace, comparison.sample), []
    for model in comparison.models:
        run = load_run(workspace, model.run) if model.run else None
        clip = opened.model(model.base, run.weights if run else None)
        spaces.append(finish(neighbourhood(clip, model_id(run, model.base), sample, workspace)))
    return Place(workspace, sample, comparison, spaces)


# ---- one student


@dataclass
class Log:
    """What the class went through."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # by kind of page
    problems: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    checks: int = 0  # that a student's own choice is shown
    messages: int = 0
    bytes: int = 0
    sessions: int = 0
    media: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Student:
    """Somebody with a secret word, who goes from page to page until the bell."""

    def __init__(
        self, number: int, secrets: list[str], address: str, place: Place, log: Log, seed: int = 0, pace: float = 5.0
    ) -> None:
        self.name, self.own, self.secrets = f"student {number}", secrets[number], secrets
        self.address, self.place, self.log, self.pace = address, place, log, pace
        self.rng = random.Random(f"{seed} {number}")
        labels, manifest = list(place.sample.classes), place.sample.manifest
        self.labels = self.rng.sample(labels, 2)
        self.phrases = [f"{self.own} {label.lower()}" for label in self.rng.sample(labels, 3)]
        self.near = {phrase: place.near(phrase) for phrase in self.phrases}
        self.word = self.rng.choice([w for w in self.rng.choice(manifest["caption"]).split() if w.isalpha()])
        self.picture = self._drawn()
        self.session: Session | None = None
        self._doing, self._fetched, self._wanted = "", set(), set()

    def attend(self, bell: float) -> None:
        """Looks at pages until that moment (`time.monotonic`). What goes wrong is noted, and a new session begun."""
        while time.monotonic() < bell:
            try:
                for _ in self.visit():
                    time.sleep(max(0.0, min(self.rng.uniform(0.4, 1.6) * self.pace, bell - time.monotonic())))
                    if time.monotonic() >= bell:
                        break
            except Exception:  # of this student alone: the others go on, and it comes back
                self._problem(traceback.format_exc(limit=3))
                self.leave()
                time.sleep(1)

    def visit(self) -> Iterator[None]:
        """One of the things that students do, a pause after each answer."""
        ways = {
            self.look_for_words: 5, self.follow_a_picture: 4, self.compare: 5, self.classify: 4, self.filter: 4,
            self.look_at_the_map: 1, self.look_around: 2,
        }  # fmt: skip
        return self.rng.choices(list(ways), list(ways.values()))[0]()

    def leave(self) -> None:
        """Closes the page."""
        if self.session:
            self.session.close()
        self.session = None

    # ---- visits

    def look_around(self) -> Iterator[None]:
        """Home and Share, which say the same to everybody."""
        self._go("home", "")
        yield
        self._go("share", "share")
        self._expect("it is a visitor", any("You are a visitor" in text for text in self.session.texts))
        yield

    def look_for_words(self) -> Iterator[None]:
        """Explore by words with the secret among them: the neighbours shown are those of these words."""
        self._go("explore", "explore")
        yield
        self._choose("explore", "Start from", ":material/edit: Words")
        yield
        for phrase in self.rng.sample(self.phrases, 2):
            self._set("explore, words", "Words", string_value=phrase)
            lines = [found[0] for widget in self.session.widgets if (found := NEAR.search(widget.label))]
            self._expect(f"neighbours of {phrase!r}", lines == self.near[phrase])
            yield

    def follow_a_picture(self) -> Iterator[None]:
        """A link to a picture of the test split, and on from there."""
        ids = self.place.sample.rows("test")["id"].tolist()
        at = self.rng.randrange(len(ids))
        self._arrive("explore, picture", "explore", sample=self.place.sample.id, picture=ids[at])
        self._expect_picture(ids[at])
        yield
        for step in (1, 2):
            self._press("explore, picture", "Next")
            self._expect_picture(ids[(at + step) % len(ids)])
            yield

    def look_at_the_map(self) -> Iterator[None]:
        """The map of all pictures."""
        self._arrive("explore, map", "explore", sample=self.place.sample.id, section="map")
        self._expect("the map's address", "section=map" in self.session.query)
        yield

    def compare(self) -> Iterator[None]:
        """Two sections of the comparison, the first one by a link; in the prompt lab, sentences of its own."""
        first, second = self.rng.sample(list(SECTIONS), 2)
        self._arrive(f"compare, {first}", "compare", comparison=self.place.comparison.id, section=first)
        self._expect_section(first)
        yield
        self._choose(f"compare, {second}", "Section", SECTIONS[second])
        self._expect_section(second)
        yield
        if second == "prompts":
            sentence = f"a {self.own} scan of the {{label}}"
            self._set("compare, own sentence", "Sentences, one a line", string_value=sentence)
            self._expect_section(second)
            yield

    def filter(self) -> Iterator[None]:
        """The sample's pictures by a word and by a class: as many as the manifest has."""
        manifest, label = self.place.sample.manifest, self.labels[0]
        self._go("data", "data")
        yield
        for words in (self.word, self.own, ""):
            self._set("data, filter", "Words in the caption", string_value=words)
            self._expect_count(len(matching(manifest, words)))
            yield
        for chosen, n in ((label, (manifest["label"] == label).sum()), ("All classes", len(manifest))):
            self._set("data, filter", "Class", string_value=chosen)  # and back: the page keeps it while it is open
            self._expect_count(n)
            yield

    def classify(self) -> Iterator[None]:
        """Its own labels, and a picture of its own."""
        self._go("classify", "classify")
        yield
        self._set("classify", "Labels, divided by commas", string_value=", ".join([self.own, *self.labels]))
        self._expect("own labels in the address", self.own in self.session.query)
        yield
        uploader = next(widget for widget in self.session.widgets if widget.kind == "file_uploader")
        name = f"{self.own}.png"
        self._ask("classify, picture", lambda: self.session.upload(uploader.id, name, self.picture))
        own = [text for text in self.session.texts if self.own in text]
        self._expect("a name and a bar a model", len(own) > len(self.place.comparison.models))
        yield
        if self.rng.random() < 0.3:
            self._set("classify, heat maps", "Where they looked", bool_value=True)
            yield

    # ---- how it is done

    def _arrive(self, kind: str, page: str, **query: str) -> None:
        """Opens a link: what was there before is left."""
        self.leave()
        self.log.sessions += 1

        def open_it() -> None:
            self.session = Session(self.address, page, urlencode(query), received=self.hear)

        self._ask(kind, open_it)

    def _go(self, kind: str, page: str) -> None:
        """Follows the navigation to a page; the first time, its address."""
        if self.session is None:
            self._arrive(kind, page)
        else:
            self._ask(kind, lambda: self.session.open(page))

    def _set(self, kind: str, label: str, **value: object) -> None:
        widget = self.session.named(label).id
        self._ask(kind, lambda: self.session.set(widget, **value))

    def _press(self, kind: str, label: str) -> None:
        self._set(kind, label, trigger_value=True)

    def _choose(self, kind: str, label: str, option: str) -> None:
        widget = self.session.named(label).id
        state = {"string_array_value": {"data": [option]}}
        self._ask(kind, lambda: self.session.set(widget, **state))

    def _ask(self, kind: str, act: Callable[[], object]) -> None:
        """One run of a page: how long it takes, and whether it is clean."""
        self._doing = kind
        begin = time.perf_counter()
        act()
        seconds, session = time.perf_counter() - begin, self.session
        with self.log.lock:
            self.log.seconds[kind].append(seconds)
        for wrong in (*session.exceptions, *session.errors):
            self._problem(f"the page shows {wrong!r}")
        here = {widget.id for widget in session.widgets}  # a browser forgets what is not shown any more
        session.states = {name: state for name, state in session.states.items() if name in here}
        self._fetch()

    def hear(self, data: bytes) -> None:
        """Takes in a message as it came: looks for others' secrets, and notes the pictures that it names."""
        found = foreign_secrets(data, self.own, self.secrets)
        with self.log.lock:
            self.log.messages += 1
            self.log.bytes += len(data)
            self.log.leaks += [f"{self.name} at {self._doing} was sent {secret}" for secret in sorted(found)]
        self._wanted.update(MEDIA.findall(data))

    def _fetch(self) -> None:
        """Fetches pictures that are new, as a browser with a cache."""
        web = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        for path in self._wanted - self._fetched:
            web.request("GET", path.decode())
            reply = web.getresponse()
            reply.read()
            if reply.status != 200:
                self._problem(f"a picture is answered with {reply.status}")
            with self.log.lock:
                self.log.media += 1
        web.close()
        self._fetched |= self._wanted
        self._wanted.clear()

    def _expect(self, claim: str, holds: bool) -> None:
        with self.log.lock:
            self.log.checks += 1
        if not holds:
            self._problem(f"not shown: {claim}")

    def _expect_picture(self, name: str) -> None:
        shown = any(name in text.replace("\\", "") for text in self.session.texts)
        self._expect(f"picture {name}", shown and urlencode({"picture": name}) in self.session.query)

    def _expect_section(self, name: str) -> None:
        self._expect(f"section {name}", ("section=" + name in self.session.query) != (name == "board"))

    def _expect_count(self, n: int) -> None:
        line = f"{n:,} of {len(self.place.sample.manifest):,} pictures"
        self._expect(line, line in self.session.texts)

    def _problem(self, text: str) -> None:
        with self.log.lock:
            self.log.problems.append(f"{self.name} at {self._doing}: {text}")

    def _drawn(self) -> bytes:
        """A picture that nobody else has."""
        pixels = np.random.default_rng(self.rng.randrange(2**32)).integers(0, 256, (64, 64, 3), np.uint8)
        return encode_png(pixels.repeat(4, 0).repeat(4, 1))


# ---- the class


@dataclass
class Server:
    """The server's memory and work, looked at every few seconds from a thread."""

    process: psutil.Process
    looks: list[tuple[float, float, float, float]] = field(default_factory=list)  # monotonic, bytes, CPU s, load

    def watch(self, over: threading.Event) -> None:
        """Looks until it is over."""
        while True:
            memory, cpu = used_by(self.process)
            self.looks.append((time.monotonic(), memory, cpu, os.getloadavg()[0]))
            if over.wait(LOOK_SECONDS):
                return


def _class(address: str, place: Place, students: int, minutes: float, seed: int, pace: float) -> dict[str, object]:
    log, secrets = Log(), secret_words(students, seed)
    pupils = [Student(number, secrets, address, place, log, seed, pace) for number in range(students)]
    server = Server(process_of(address))
    load_before, own_before = os.getloadavg()[0], time.process_time()
    over, begin = threading.Event(), time.monotonic()
    bell = begin + 60 * minutes
    watcher = threading.Thread(target=server.watch, args=(over,))
    threads = [threading.Thread(target=_attend, args=(pupil, bell, i, students)) for i, pupil in enumerate(pupils)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.monotonic() - begin
    over.set()
    watcher.join()
    runs = [seconds for each in log.seconds.values() for seconds in each]
    return {
        "students": students,
        "minutes": round(wall / 60, 2),
        "pace_seconds": pace,
        "sessions": log.sessions,
        "runs": len(runs),
        "runs_a_second": round(len(runs) / wall, 2),
        "messages": log.messages,
        "megabytes_received": round(log.bytes / 1e6),
        "pictures_fetched": log.media,
        "problems": len(log.problems),
        "first_problems": log.problems[:20],
        "own_choices_checked": log.checks,
        "foreign_secrets": len(log.leaks),
        "first_foreign_secrets": log.leaks[:20],
        "seconds": {"all": _spread(runs)} | {kind: _spread(log.seconds[kind]) for kind in sorted(log.seconds)},
        "memory": memory_summary(
            [(at - begin, used) for at, used, *_ in server.looks], 60 * min(WARM_UP_MINUTES, minutes / 3)
        ),
        "server_cores": round((server.looks[-1][2] - server.looks[0][2]) / wall, 2),
        "students_cores": round((time.process_time() - own_before) / wall, 2),
        "load": {
            "before": round(load_before, 2),
            "mean": round(float(np.mean([look[3] for look in server.looks])), 2),
            "most": round(max(look[3] for look in server.looks), 2),
        },
        "malloc_arena_max": os.environ.get("MALLOC_ARENA_MAX"),
    }


def _attend(student: Student, bell: float, number: int, students: int) -> None:
    time.sleep(min(30.0, students) * number / students)  # a class does not come in all at once
    student.attend(bell)
    student.leave()


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "n": len(seconds),
        "median": round(float(np.median(seconds)), 3),
        "p95": round(float(np.quantile(seconds, 0.95)), 3),
        "worst": round(max(seconds), 3),
    }


def memory_summary(looks: list[tuple[float, float]], warm_up: float) -> dict[str, object]:
    """Of (seconds since the beginning, bytes): megabytes after the warm-up, at the end, at most, and their slopes.

    Slopes are least squares over what comes after the warm-up, whole and in halves: caches that fill have a second half
    that is flatter than the first, and a leak has not.
    """
    after = np.array([(at / 60, used / 1e6) for at, used in looks if at >= warm_up])
    middle = len(after) // 2
    by_minute = {int(at // 60): used / 1e6 for at, used in looks}  # the last look of each minute
    return {
        "at_first": round(looks[0][1] / 1e6),
        "warm_up_minutes": round(warm_up / 60, 2),
        "after_warm_up": round(float(after[0, 1])),
        "at_the_end": round(float(after[-1, 1])),
        "most": round(max(used for _, used in looks) / 1e6),
        "megabytes_a_minute": round(_slope(after), 2),
        "first_half": round(_slope(after[:middle]), 2),
        "second_half": round(_slope(after[middle:]), 2),
        "by_minute": [round(by_minute[minute]) for minute in sorted(by_minute)],
    }


def _slope(points: np.ndarray) -> float:
    return float(linregress(points[:, 0], points[:, 1]).slope)


if __name__ == "__main__":
    typer.run(main)
