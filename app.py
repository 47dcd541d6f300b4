"""`streamlit run app.py` opens the laboratory."""

import importlib
import threading
from pathlib import Path

import streamlit as st

# The script is elsewhere so that Streamlit does not take pages/ for its old kind of pages: see clipdemo/ui/main.py.
app = st.App(Path(__file__).resolve().parent / "clipdemo" / "ui" / "main.py")

# What the first page imports is read while the server and the browser start, not after.
threading.Thread(target=importlib.import_module, args=("clipdemo.ui.home",), daemon=True).start()
