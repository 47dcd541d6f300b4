"""What is read once and kept for all visitors. Every cache decorator of the app is here."""

from __future__ import annotations

import streamlit as st

from clipdemo.records import RunConfig
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import run_id
from clipdemo.workspace import Workspace


def sample(workspace: Workspace, name: str) -> Sample:
    """An existing sample with its manifest kept in memory. Raises `SampleError` when there is none."""
    written = workspace.folder("samples", name) / "sample.json"
    return _sample(str(workspace.root), name, written.stat().st_mtime_ns if written.exists() else 0)


def run_name(config: RunConfig, of: Sample) -> str:
    """The id of the run with these settings on this sample; to know it, the base model's file is read once."""
    return _run_name(config.model_dump_json(), of.content_hash, of)


@st.cache_resource(max_entries=16, show_spinner=False)
def _sample(root: str, name: str, written: int) -> Sample:
    return load_sample(Workspace(root), name)


@st.cache_data(max_entries=256, show_spinner=False)
def _run_name(config: str, content_hash: str, _sample: Sample) -> str:
    return run_id(RunConfig.model_validate_json(config), _sample)
