"""What there is to say about a run: its sample, how it was made, and how it did against the others."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from clipdemo.commands import PROGRAM, sample_arguments, train_arguments
from clipdemo.comparison import load_comparison
from clipdemo.embeddings import model_id
from clipdemo.errors import ClipDemoError, ComparisonError, ModelError
from clipdemo.leaderboard import Standing
from clipdemo.records import BUILT_IN_BASE, Comparison, Evaluation
from clipdemo.reporting.findings import Findings
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import Run, load_run
from clipdemo.workspace import Workspace

_PATHS = ("path", "images")  # options of sources that hold a path on this machine


@dataclass(frozen=True)
class Facts:
    """A run that has ended with its sample, and a comparison that it stands in, where there is one."""

    run: Run
    sample: Sample
    workspace: Workspace
    findings: Findings | None

    @classmethod
    def of(cls, run: Run, workspace: Workspace, comparison: Comparison | None = None) -> Facts:
        """Without a comparison, the newest one that measured these very weights is taken, if there is any.

        Raises `ModelError` for a run without weights, `SampleError` where its sample is gone, and `ComparisonError`
        for a comparison in which these weights were not measured.
        """
        if run.result is None or not run.weights.exists():
            raise ModelError(f"run {run.id} has no weights to export: it has not ended, or was broken off; train it")
        sample = load_sample(workspace, run.sample)
        if comparison is None:
            return cls(run, sample, workspace, _newest_findings(run, sample, workspace))
        findings = Findings.of(workspace, comparison)
        if _evaluation(run, findings) is None:
            raise ComparisonError(
                f"comparison {comparison.id} did not measure the weights that run {run.id} has now: evaluate the run "
                "and compare again"
            )
        return cls(run, sample, workspace, findings)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """How the run was measured: with its own template where there are several."""
        return _evaluation(self.run, self.findings) if self.findings else None

    @property
    def standing(self) -> Standing | None:
        """The run's row of the leaderboard."""
        if self.findings is None or self.evaluation is None:
            return None
        board = self.findings.board
        return next(s for s in board.standings if s.model == self.evaluation.predictions)

    @property
    def template(self) -> str:
        """The sentence that stands for a class: the one that it was measured with, else its own."""
        return self.evaluation.template if self.evaluation else self.run.config.template

    @property
    def free(self) -> bool:
        """Whether base and pictures are clipdemo's own, so that the licence of the weights is known."""
        return self.run.config.base == BUILT_IN_BASE and self.sample.synthetic

    def commands(self) -> list[str]:
        """The shell lines, in order, that make the run again: the sample, the runs that it continues, itself."""
        chain = [self.run]
        while chain[0].config.continues:
            try:
                chain.insert(0, load_run(self.workspace, chain[0].config.continues))
            except ClipDemoError:
                break  # deleted since: the line of the next one names it
        lines = [("sample", sample_arguments(self.sample.config))]
        lines += [("train", train_arguments(run.config, run.sample)) for run in chain]
        return [f"{PROGRAM} {command} {shlex.join(map(self.shared, arguments))}" for command, arguments in lines]

    def shared(self, text: str) -> str:
        """The text as others may read it: of paths on this machine only the last part."""
        values = [str(self.sample.config.options.get(name, "")) for name in _PATHS]
        bases = {self.run.config.base, *(model.base for model in (self.findings.models if self.findings else ()))}
        values += [
            base.partition(":")[2] for base in bases if not base.startswith("hf-hub:")
        ]  # local-dir:PATH, NAME:PATH
        values += [str(self.workspace.root)]
        for value in sorted(values, key=len, reverse=True):  # what lies in a folder before the folder
            if name := PurePath(value).name:
                text = text.replace(value, name)
        return text


def _evaluation(run: Run, findings: Findings) -> Evaluation | None:
    weights = model_id(run, run.config.base)
    own = [m for m in findings.models if m.run == run.id and m.predictions.rpartition("-")[0] == weights]
    return min(own, key=lambda m: m.template != run.config.template, default=None)


def _newest_findings(run: Run, sample: Sample, workspace: Workspace) -> Findings | None:
    for name in workspace.names("comparisons"):
        with suppress(ClipDemoError, KeyError, TypeError):  # one that is damaged is no reason to export nothing
            findings = Findings.of(workspace, load_comparison(workspace, name))
            same = findings.comparison.sample_hash == sample.content_hash
            if same and _evaluation(run, findings) and findings.board.n:
                return findings
    return None
