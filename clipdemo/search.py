"""Neighbours through FAISS: which rows are nearest to a query, from a handful of rows to the half million.

Rows are embeddings of unit length, as `embeddings` keeps them (float16, mapped from disk) or float32 in memory. FAISS
proposes candidates, the rows themselves decide: a score is the float32 of the inner product in float64, and equal
scores come by place. So scores are the same for all kinds of index, batches and numbers of threads.

Kinds, and when (`choose_kind`, `lists_pay`), by `benchmarks/results/search.json`. It measures 500,000 clustered rows of
512 on two cores: milliseconds a query (median), recall of the ten nearest, megabytes of file, seconds to build.

             ms   recall    MB    s
    exact   88    1        976    4   Up to `EXACT_BYTES` of float32 rows, where it takes 15 ms (0.6 of 4,096 rows). All
                                      are looked at, and nothing is missed: see `_proved`.
    ivf      5.8  0.987    250   52   All that is larger. Lists of rows of 8 bits a number; a query reads a few of them,
                                      so most may stay on disk.
    hnsw     2.8  0.994    343  215   A graph over such rows. Where rows lie in no clusters and their neighbours in many
                                      lists, and where it fits well into free memory: a search walks all over it.

All are mapped from disk and cost next to no memory of the process's own (at most 6 MB).

How thoroughly the last two search is chosen when they are built: the least effort with which the rows' own queries,
and those of every other sort that will be asked, find `TARGET_RECALL` of their ten nearest. Texts are such a sort:
a model's texts and pictures lie apart, so what suits the one may be blind for the other.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import psutil

from clipdemo.embeddings import rows_digest, unit_rows
from clipdemo.errors import BadSettings
from clipdemo.progress import Activity, Progress
from clipdemo.records import Fraction, Record
from clipdemo.workspace import Workspace, disk_errors, file_state, read_json, write_json

if TYPE_CHECKING:
    import faiss

logger = logging.getLogger(__name__)

Kind = Literal["exact", "hnsw", "ivf"]
FORMAT = 1  # of what is kept; another number has everything built anew

EXACT_BYTES = 128 * 2**20  # of float32 rows: 65,536 of 512 numbers
MEMORY_SHARE = 0.25  # of the free memory that a graph may take
LISTS_LOOKED_AT = 10  # at most one list in so many, which is fourteen times as fast as exact

TARGET_RECALL = 0.98  # when built, so that other queries have 0.95
RECALL_DEPTH = 10
PROBES = 256  # queries of each sort that the recall is measured with
LINKS, GRAPH_EFFORT = 24, 64  # of HNSW: neighbours a row, and candidates while it is built
POINTS_A_LIST = 40  # that k-means sees; FAISS warns below 39
EFFORTS: dict[Kind, tuple[int, ...]] = {
    "exact": (0,),
    "hnsw": (64, 128, 256, 512, 1024),  # candidates
    "ivf": (4, 8, 16, 32, 64, 128, 256, 512),  # lists
}

_SPARE = 16  # candidates past k: near-ties whose order only exact scores tell
_OVERFETCH = 4  # times k, of candidates whose scores are those of 8-bit rows
_BLOCK = 16_384  # rows in float32 at a time
CACHED = 2**16  # numbers in float32 that stay in a processor's cache
_ALONE = 16  # queries that are searched by one thread


class IndexCard(Record):
    """What an index is and what was measured when it was built; `index.json` beside it."""

    format: int = FORMAT
    kind: Kind
    n: int
    dim: int
    effort: int  # of HNSW candidates, of IVF lists looked at; 0 for exact
    recall: dict[str, Fraction]  # at 10, by the sort of query
    probes: int  # queries of each sort, at most
    rows: str  # digest of the rows, see `embeddings.rows_digest`
    bytes: int = 0  # of the file
    seconds: float  # it took to build
    file: str = ""  # digest of the file


# ---- searching


class Index:
    """Nearest rows by inner product. `rows` is float32 (n, dim) of unit length, or float16 as `embeddings` keeps it."""

    def __init__(self, rows: np.ndarray, core: faiss.Index, card: IndexCard, path: Path | None = None) -> None:
        self.rows, self.card = rows, card
        self._core, self._path = core, path  # a path: where the core is mapped from

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32 (q, k), places int64 (q, k)) of each query's nearest rows, best first, equal ones by place.

        `queries` is float32 (q, dim) of unit length. `allowed` is bool (n,): only those rows may be found. There are
        fewer columns where there are fewer rows. Exact for the exact kind, and for any kind where few rows are allowed.
        Raises `BadSettings` for queries of another model.
        """
        queries = self._checked(queries, k)
        if allowed is not None and not allowed.all():
            places = np.flatnonzero(allowed)
            if self.card.kind != "exact" and places.size * self.card.dim * 4 <= EXACT_BYTES:
                return scan(self.rows, queries, k, places)  # a graph or lists, filtered hard, find too little
            return self._found(queries, min(k, places.size), allowed, places)
        return self._found(queries, min(k, len(self)), None, None)

    def _found(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, places: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        selector = None if allowed is None else _selector(allowed)
        if self.card.kind == "exact":
            return _proved(self._core, self.rows, queries, k, len(self) if places is None else places.size, selector)
        scores, found = self.approximate(queries, k, self.card.effort, selector)
        short = found[:, -1] < 0 if k else np.zeros(len(queries), bool)  # those lists or that walk had fewer
        if short.any():
            scores[short], found[short] = scan(self.rows, queries[short], k, places)
        return scores, found

    def approximate(
        self, queries: np.ndarray, k: int, effort: int, selector: faiss.IDSelector | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What an effort finds, with exact scores; -inf and -1 where it is fewer than k."""
        asked = min(len(self), max(_OVERFETCH * k, k + _SPARE))
        with _threads(len(queries)):
            _, places = self._core.search(queries, asked, params=_parameters(self.card.kind, effort, asked, selector))
        return _best(exact_scores(self.rows, queries, places), places, k)

    def _checked(self, queries: np.ndarray, k: int) -> np.ndarray:
        if queries.ndim != 2 or queries.shape[1] != self.card.dim:
            raise BadSettings(
                f"queries of shape {queries.shape} do not fit rows of {self.card.dim} numbers: encode them with the "
                "model that the index was built for"
            )
        if k < 1:
            raise BadSettings(f"k = {k}: ask for at least one neighbour")
        return np.ascontiguousarray(queries, dtype=np.float32)

    def add(self, rows: np.ndarray) -> Index:
        """An index of these rows and some more, whose places go on from the last; nothing is built anew.

        This one stays as it was. Its recall is no longer measured for the new rows: `index_of` with `earlier` does so.
        """
        import faiss

        # A mapped core cannot grow, and FAISS ends the process that tries.
        core = faiss.read_index(str(self._path)) if self._path else faiss.clone_index(self._core)
        more = rows.astype(self.rows.dtype)
        with _threads():
            for block in _blocks(more):
                core.add(block)
        both = np.concatenate([self.rows, more])
        return Index(both, core, self.card.model_copy(update={"n": len(both), "rows": rows_digest(both)}))


def scan(
    rows: np.ndarray, queries: np.ndarray, k: int, places: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What an exact index would find among all rows, or those at some places, without one: a block at a time."""
    places = np.arange(len(rows)) if places is None else places
    scores, found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for first in range(0, len(places), _BLOCK):
        here = places[first : first + _BLOCK]
        if len(queries) < _ALONE:
            some, at = _compared(rows, queries, k, here)
        else:  # FAISS makes the most of many queries, once the rows are copied
            block = _as_float32(rows[here])
            some, at = _proved(_exact_core(block), block, queries, min(k, len(here)), len(here), None)
            at = here[at]
        scores, found = _best(np.hstack([scores, some]), np.hstack([found, at]), k)
    return scores, found


def _compared(rows: np.ndarray, queries: np.ndarray, k: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of the rows at some places, certainly, for a few queries: (scores, places) as `scan` gives them.

    Rows are widened so few at a time that they stay in the processor's cache: a fifth of the time of a large block.
    """
    n, dim = len(places), rows.shape[1]
    near, step = np.empty((len(queries), n), np.float32), max(1, CACHED // dim)
    for first in range(0, n, step):
        part = np.asarray(rows[places[first : first + step]], np.float32)
        near[:, first : first + step] = queries @ part.T
        if rows.dtype == np.float16:
            near[:, first : first + step] /= np.sqrt(np.einsum("nd,nd->n", part, part))
    asked = min(n, k + _SPARE)
    while True:
        at = np.argpartition(-near, asked - 1, axis=1)[:, :asked]
        scores, found = _best(exact_scores(rows, queries, places[at]), places[at], k)
        edge = np.take_along_axis(near, at[:, -1:], axis=1)[:, 0]  # the lowest of those asked for
        if asked == n or (edge + 2 * _float32_error(dim) < scores[:, -1]).all():
            return scores, found
        asked = min(n, 4 * asked)


def _proved(
    core: faiss.Index, rows: np.ndarray, queries: np.ndarray, k: int, n: int, selector: faiss.IDSelector | None
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of n rows, certainly: asks for more until what was not asked for cannot reach the k-th any more."""
    import faiss

    if not k:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    error = _float32_error(rows.shape[1])
    asked = min(n, k + _SPARE)
    while True:
        with _threads(len(queries)):
            near, places = core.search(queries, asked, params=faiss.SearchParameters(sel=selector))
        scores, found = _best(exact_scores(rows, queries, places), places, k)
        if asked == n or (near[:, -1] + error < scores[:, -1]).all():
            return scores, found
        asked = min(n, 4 * asked)


def _float32_error(dim: int) -> float:
    """How far a float32 sum may be off: dim x 2^-24 (Higham 2002, section 3.1), and as much for rounded lengths."""
    return dim * 2.0**-23


def exact_scores(rows: np.ndarray, queries: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float32 (q, c): inner products of each query with the rows at its places, summed in float64; -inf at place -1."""
    scores = np.empty(places.shape, np.float32)
    for query, at, out in zip(queries.astype(np.float64), places, scores, strict=True):
        out[:] = np.einsum("cd,d->c", _as_float32(rows[at]).astype(np.float64), query)
    scores[places < 0] = -np.inf
    return scores


def _best(scores: np.ndarray, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((places, -scores))[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)


def _as_float32(rows: np.ndarray) -> np.ndarray:
    return unit_rows(rows) if rows.dtype == np.float16 else np.asarray(rows)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """All rows in float32 and of unit length, so many at a time that memory does not matter."""
    return (np.ascontiguousarray(_as_float32(rows[i : i + _BLOCK])) for i in range(0, len(rows), _BLOCK))


def _selector(allowed: np.ndarray) -> faiss.IDSelector:
    import faiss

    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _parameters(
    kind: Kind, effort: int, asked: int, selector: faiss.IDSelector | None = None
) -> faiss.SearchParameters:
    import faiss

    if kind == "hnsw":  # fewer candidates than asked for would find less than the same number
        return faiss.SearchParametersHNSW(efSearch=max(effort, asked), sel=selector)
    return faiss.SearchParametersIVF(nprobe=effort, sel=selector)


@contextmanager
def _threads(queries: int | None = None) -> Iterator[None]:
    """One thread for a few queries, all for many: waiting for a second thread costs a single query more than it saves.

    Set back afterwards: where torch was imported first, FAISS shares its OpenMP, and so its number of threads. The
    setting is a thread's own, so threads of a server do not disturb each other. On macOS FAISS and torch bring an
    OpenMP each, and the second that starts threads may crash: https://github.com/faiss-wheels/faiss-wheels/issues/73.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    alone = (queries is not None and queries < _ALONE) or sys.platform == "darwin"
    faiss.omp_set_num_threads(1 if alone else before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


# ---- building


def choose_kind(n: int, dim: int) -> Kind:
    """The kind to begin with for n rows of `dim` numbers."""
    return "exact" if n * dim * 4 <= EXACT_BYTES else "ivf"


def lists_pay(card: IndexCard) -> bool:
    """Whether an IVF index finds enough in so few of its lists that it is many times as fast as a look at all rows."""
    return min(card.recall.values()) >= TARGET_RECALL and card.effort * LISTS_LOOKED_AT <= list_count(card.n)


def graph_fits(n: int, dim: int, free_bytes: int) -> bool:
    """Whether a graph over n rows of `dim` numbers takes no more than its share of free memory."""
    return graph_bytes(n, dim) <= MEMORY_SHARE * free_bytes


def graph_bytes(n: int, dim: int) -> int:
    """What a graph over n rows takes: a byte a number, and 2 x LINKS neighbours of 4 bytes a row and level."""
    return n * (dim + 8 * LINKS + 16)


def build_index(
    rows: np.ndarray, probes: Mapping[str, np.ndarray] | None = None, kind: Kind | None = None, stage: str = "index"
) -> Activity[Index]:
    """An index of the rows, in memory, with its recall measured.

    `probes` are queries of other sorts, float32 (q, dim), by name; the rows' own are always measured. `kind` is chosen
    where it is not given. Raises `BadSettings` where there are no rows.
    """
    if not len(rows):
        raise BadSettings("there are no rows to index")
    index = yield from _built(rows, probes, kind or choose_kind(*rows.shape), stage)
    if kind or index.card.kind == "exact" or lists_pay(index.card):
        return index
    if not graph_fits(*rows.shape, psutil.virtual_memory().available):
        logger.warning("%s; a graph would find more, but does not fit into free memory", in_short(index.card))
        return index
    return (yield from _built(rows, probes, "hnsw", stage))


def _built(rows: np.ndarray, probes: Mapping[str, np.ndarray] | None, kind: Kind, stage: str) -> Activity[Index]:
    n, note = len(rows), f"building an index ({kind}) of {len(rows):,} rows"
    began = time.perf_counter()
    yield Progress(stage=stage, done=0, total=n, note=note)
    core = _empty_core(rows, kind)
    for block in _blocks(rows):
        with _threads():  # never over a yield: others compute meanwhile
            core.add(block)
        yield Progress(stage=stage, done=core.ntotal, total=n, note=note)
    card = IndexCard(
        kind=kind,
        n=n,
        dim=rows.shape[1],
        effort=0,
        recall={},
        probes=min(PROBES, n),
        rows=rows_digest(rows),
        seconds=time.perf_counter() - began,
    )
    return (yield from measured(Index(rows, core, card), probes, stage))


def measured(index: Index, probes: Mapping[str, np.ndarray] | None = None, stage: str = "index") -> Activity[Index]:
    """The same index, with the least effort that reaches `TARGET_RECALL` for every sort of query, and its recall."""
    rng = np.random.default_rng(0)
    own = _as_float32(index.rows[np.sort(rng.choice(len(index), min(PROBES, len(index)), replace=False))])
    others = {name: queries[rng.permutation(len(queries))[:PROBES]] for name, queries in (probes or {}).items()}
    sorts = {"rows": own} | {name: queries for name, queries in others.items() if len(queries)}
    recall, effort = dict.fromkeys(sorts, 1.0), 0
    if index.card.kind != "exact":
        yield Progress(stage=stage, done=len(index), total=len(index), note="measuring its recall")
        truth = {name: scan(index.rows, queries, RECALL_DEPTH + 1)[0] for name, queries in sorts.items()}
        for effort in _efforts(index.card.kind, len(index)):
            found = {name: index.approximate(q, RECALL_DEPTH + 1, effort)[0] for name, q in sorts.items()}
            recall = {name: recall_at_10(found[name], truth[name], itself=name == "rows") for name in sorts}
            if min(recall.values()) >= TARGET_RECALL:
                break
        else:
            logger.warning("index of %s rows finds %s of the ten nearest at its best", f"{len(index):,}", recall)
    card = index.card.model_copy(update={"recall": recall, "effort": effort})
    yield Progress(stage=stage, done=len(index), total=len(index), note=in_short(card))
    return Index(index.rows, index._core, card, index._path)


def _efforts(kind: Kind, n: int) -> list[int]:
    """Efforts to try, least first; the last is as thorough as this kind gets."""
    most = list_count(n) if kind == "ivf" else n
    return [*(effort for effort in EFFORTS[kind] if effort < most), min(most, EFFORTS[kind][-1])]


def recall_at_10(found: np.ndarray, truth: np.ndarray, itself: bool = False) -> float:
    """Fraction of the true ten best scores that were reached, from two float (q, 11), best first.

    By score, not place: one of two equal rows is as good as the other. `itself`: the queries are rows of the index, and
    a row that finds itself is no achievement.
    """
    first = int(itself)
    last = min(first + RECALL_DEPTH, truth.shape[1])
    if last == first:
        return 1.0
    return float((found[:, first:last] >= truth[:, last - 1 : last]).mean())


def in_short(card: IndexCard) -> str:
    """An index in a line: "500,000 rows, ivf: finds 98.8 % of the ten nearest (rows), 98.1 % (captions)"."""
    if card.kind == "exact":
        return f"{card.n:,} rows, exact"
    found = ", ".join(f"{100 * value:.1f} % ({name})" for name, value in card.recall.items())
    return f"{card.n:,} rows, {card.kind}: finds {found} of the ten nearest"


def in_words(card: IndexCard, rows: str = "rows") -> str:
    """How an index finds, for people who know its rows by this name: what is looked at, and how much of it is found."""
    if card.kind == "exact":
        return f"all {card.n:,} {rows} are compared with what is asked, so nothing is missed"
    named = {rows if sort == "rows" else sort: value for sort, value in card.recall.items()}
    recall = " and ".join(f"{100 * value:.1f} % (asked with {sort})" for sort, value in named.items())
    how = f"{card.effort:,} of {list_count(card.n):,} lists of {rows} are looked through"
    if card.kind == "hnsw":
        how = f"a graph over {card.n:,} {rows} is walked, {card.effort:,} candidates at a time"
    return f"{how}, which found {recall} of the ten nearest when it was measured, {card.probes:,} questions of a sort"


def _empty_core(rows: np.ndarray, kind: Kind) -> faiss.Index:
    """FAISS's own index, trained on some of the rows, without any in it."""
    import faiss

    n, dim = rows.shape
    bits, product = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    if kind == "exact":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        core, points = faiss.IndexHNSWSQ(dim, bits, LINKS, product), _BLOCK
        core.hnsw.efConstruction = GRAPH_EFFORT
    else:
        lists = list_count(n)
        core = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(dim), dim, lists, bits, product)
        core.cp.spherical = True  # centres of unit length, as the rows are
        points = max(_BLOCK, lists * POINTS_A_LIST)
    sample = np.random.default_rng(0).choice(n, min(n, points), replace=False)
    with _threads():
        core.train(_as_float32(rows[np.sort(sample)]))
    return core


def list_count(n: int) -> int:
    """Lists of an IVF index: twice the square root of n, so that centres and lists cost a query about the same."""
    return max(1, min(2 * round(n**0.5), n // POINTS_A_LIST))


def _exact_core(rows: np.ndarray) -> faiss.Index:
    import faiss

    core = faiss.IndexFlatIP(rows.shape[1])
    core.add(np.ascontiguousarray(rows))
    return core


# ---- what is kept


def index_of(
    rows: np.ndarray,
    workspace: Workspace,
    name: str,
    probes: Mapping[str, np.ndarray] | None = None,
    kind: Kind | None = None,
    earlier: str | None = None,
    stage: str = "index",
) -> Activity[Index]:
    """The index of embeddings, kept in the workspace under the embeddings' name and mapped from disk.

    Built where there is none, or where it is damaged or belongs to other rows. `earlier` names the index of a
    beginning of these rows: only what is new is then added to it. Two processes that want the same build it once.
    """
    with workspace.lock(f"index-{name}"):
        if (kept := _open(rows, workspace, name, kind)) is None:
            if workspace.folder("indexes", name).is_dir():
                logger.warning("index %s is damaged, of other rows or of another version: it is built again", name)
                workspace.delete("indexes", name)
            made = yield from _grown_or_built(rows, workspace, probes, kind, earlier, stage)
            _write(made, workspace, name)
            kept = _open(rows, workspace, name, kind)
    return kept


def _grown_or_built(
    rows: np.ndarray,
    workspace: Workspace,
    probes: Mapping[str, np.ndarray] | None,
    kind: Kind | None,
    earlier: str | None,
    stage: str,
) -> Activity[Index]:
    card = _read_card(workspace, earlier) if earlier else None
    outgrown = card and card.kind == "exact" != (kind or choose_kind(*rows.shape))
    if card and card.n < len(rows) and not outgrown and (old := _open(rows[: card.n], workspace, earlier, kind)):
        grown = old.add(rows[card.n :])
        return (yield from measured(Index(rows, grown._core, grown.card), probes, stage))  # mapped rows, not the copy
    return (yield from build_index(rows, probes, kind, stage))


def _write(index: Index, workspace: Workspace, name: str) -> None:
    import faiss

    with workspace.new_folder("indexes", name) as folder, disk_errors(folder):
        path = folder / "index.faiss"
        faiss.write_index(index._core, str(path))
        card = index.card.model_copy(update={"bytes": path.stat().st_size, "file": file_digest(path)})
        write_json(folder / "index.json", card.model_dump(mode="json"))


def _read_card(workspace: Workspace, name: str) -> IndexCard | None:
    """What is written beside an index; None where that is nothing, or another version's."""
    try:
        card = IndexCard(**read_json(workspace.folder("indexes", name) / "index.json"))
    except Exception:  # whatever a truncated or foreign file makes the parsers say
        return None
    return card if card.format == FORMAT else None


def _open(rows: np.ndarray, workspace: Workspace, name: str, kind: Kind | None) -> Index | None:
    """The kept index, mapped from disk; None where there is none, or not of these rows.

    FAISS sees nothing but files that it has written: of others it may end the process.
    """
    import faiss

    card, path = _read_card(workspace, name), workspace.folder("indexes", name) / "index.faiss"
    if card is None or (kind and card.kind != kind) or card.rows != rows_digest(rows):
        return None
    try:
        if file_digest(path) != card.file:
            return None
        core = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError):  # not there, or written by a FAISS that knows more than this one
        return None
    return Index(rows, core, card, path)


def file_digest(path: Path) -> str:
    """32 hexadecimal digits of a file's content, computed once for each state of it."""
    return _file_digest(str(path), file_state(path))


@lru_cache(maxsize=256)
def _file_digest(path: str, state: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
