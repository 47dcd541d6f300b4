"""`streamlit run app.py` opens the laboratory."""

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.routing import Mount

from clipdemo.gradio_app import Mounted
from clipdemo.sockets import answer_at_once

gradio = Mounted("/gradio")  # imports Gradio when somebody first asks for it


@asynccontextmanager
async def lifespan(server: st.App) -> AsyncIterator[None]:
    """What begins and ends with the server."""
    answer_at_once()
    async with gradio.lifespan(server):
        yield


# The script is elsewhere so that Streamlit does not take pages/ for its old kind of pages: see clipdemo/ui/main.py.
app = st.App(
    Path(__file__).resolve().parent / "clipdemo" / "ui" / "main.py",
    routes=[Mount("/gradio", app=gradio)],
    lifespan=lifespan,
)


def read_ahead() -> None:
    """Imports what the pages import, the first one first, while the server and the browser start, not after.

    SciPy is left to the sections that use it: read ahead as well, it would make every first page wait.
    """
    for page in ("home", "compare", "explore", "train", "data"):
        importlib.import_module(f"clipdemo.ui.{page}")


threading.Thread(target=read_ahead, daemon=True).start()
