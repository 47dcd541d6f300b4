"""What a container does before the app starts: `python -m clipdemo.container`, the command of the Dockerfile.

Where the workspace lies, how much an upload may be and how people sign in come from the environment, so that the code
can be read-only. The server then takes this process's place, and gets the signals that are meant for it.

    CLIPDEMO_WORKSPACE   the workspace, where somebody has decided on it
    CLIPDEMO_DATA        where else a disk that outlives restarts is mounted; /data where it is left out
    CLIPDEMO_TEMPORARY   set here to 1 where nothing outlives a restart, so that the pages can say so
    OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET, OPENID_PROVIDER_URL, SPACE_HOST, OAUTH_SCOPES
                         sign-in by OpenID Connect; a Space with `hf_oauth: true` has them
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from clipdemo.errors import BadSettings, ClipDemoError
from clipdemo.hosting import policy
from clipdemo.workspace import disk_errors

APP = Path(__file__).resolve().parent.parent / "app.py"


def prepared(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that the server starts with; what is kept about signing in is written to the user's home.

    Raises `BadSettings` for settings that cannot work, and `WorkspaceError` when the home cannot be written.
    """
    ready = dict(environment) | _place(environment)
    # The page's own limit comes too late: by then the whole upload lies in memory.
    ready.setdefault("STREAMLIT_SERVER_MAX_UPLOAD_SIZE", str(policy(environment).limits.upload_megabytes))
    if text := sign_in(environment):
        _keep(Path(environment["HOME"]) / ".streamlit" / "secrets.toml", text)
        del ready["OAUTH_CLIENT_SECRET"]  # no job needs it
    return ready


def _place(environment: Mapping[str, str]) -> dict[str, str]:
    """Where the workspace is, and whether it is lost at a restart."""
    if environment.get("CLIPDEMO_WORKSPACE"):
        return {}
    disk = Path(environment.get("CLIPDEMO_DATA", "/data"))
    if disk.is_dir() and os.access(disk, os.W_OK | os.X_OK):
        return {"CLIPDEMO_WORKSPACE": str(disk / "clipdemo")}
    return {"CLIPDEMO_WORKSPACE": str(Path(tempfile.gettempdir()) / "clipdemo"), "CLIPDEMO_TEMPORARY": "1"}


def sign_in(environment: Mapping[str, str]) -> str:
    """Streamlit's secrets.toml for `st.login`; "" where no client is given. Raises `BadSettings` for half of one.

    The cookies' secret is a new one each time: a restart signs everybody out.
    """
    if not environment.get("OAUTH_CLIENT_ID"):
        return ""
    needed = ("OAUTH_CLIENT_SECRET", "OPENID_PROVIDER_URL", "SPACE_HOST")
    if missing := [name for name in needed if not environment.get(name)]:
        raise BadSettings(f"OAUTH_CLIENT_ID is set, {', '.join(missing)} not: set all of them or none")
    email = " email" if "email" in environment.get("OAUTH_SCOPES", "").split() else ""
    auth = {
        "redirect_uri": f"https://{environment['SPACE_HOST']}/oauth2callback",
        "cookie_secret": secrets.token_hex(32),
        "client_id": environment["OAUTH_CLIENT_ID"],
        "client_secret": environment["OAUTH_CLIENT_SECRET"],
        "server_metadata_url": environment["OPENID_PROVIDER_URL"].rstrip("/") + "/.well-known/openid-configuration",
    }
    # Streamlit would ask for the address as well, which a Space without that scope must not.
    return _table("auth", auth) + _table("auth.client_kwargs", {"scope": f"openid profile{email}"})


def _table(name: str, values: Mapping[str, str]) -> str:
    """A table of TOML, whose strings are those of JSON."""
    return (
        "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())])
        + "\n"
    )


def _keep(path: Path, text: str) -> None:
    """Writes a file that nobody else ever can read."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)


def _says(ready: Mapping[str, str]) -> str:
    lost = ": temporary, nothing in it outlives a restart" if ready.get("CLIPDEMO_TEMPORARY") == "1" else ""
    return f"workspace {ready['CLIPDEMO_WORKSPACE']}{lost}"


def main() -> None:
    """Becomes the server, or ends with one line that says what is to be set otherwise."""
    try:
        ready = prepared(os.environ)
    except ClipDemoError as error:
        sys.exit(str(error))
    print(_says(ready), flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "streamlit", "run", str(APP)], ready)


if __name__ == "__main__":
    main()
