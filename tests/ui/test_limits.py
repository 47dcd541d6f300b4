import tomllib
from pathlib import Path

from clipdemo.ui import state

CONFIG = Path(__file__).resolve().parents[2] / ".streamlit" / "config.toml"


def test_the_server_takes_what_the_pages_offer_to_take():
    settings = tomllib.loads(CONFIG.read_text())
    assert settings["server"]["maxUploadSize"] >= state.MAX_UPLOAD_MEGABYTES
