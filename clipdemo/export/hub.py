"""Pushes an exported folder to the Hub, with its owner's token.

The token is an argument of one call. It is handed to huggingface_hub for that call alone and stands in no file, no
environment variable, no address and no message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from clipdemo.errors import BadSettings, ModelError
from clipdemo.export.folder import Export, read_export
from clipdemo.export.model import CONFIG
from clipdemo.workspace import read_json

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd


def push(folder: Path, repository: str, token: str, private: bool = False, endpoint: str | None = None) -> str:
    """Puts an export into a repository of the Hub, made where it is missing, and returns its address.

    Nothing but the export's own files leaves, in one commit. A model goes to a model's repository, a Space to a
    Space's. Raises `WorkspaceError` for a folder that is no export, `BadSettings` without a token and `ModelError`
    with the Hub's reason where it refuses, or where the repository is public and should be private.
    """
    export = read_export(folder)
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise BadSettings("no token that could be one: make one that may write at huggingface.co/settings/tokens")
    address, problem = "", ""
    try:
        address = _pushed(export, repository, token, private, endpoint)
    except Exception as error:  # huggingface_hub, its HTTP library and Xet each raise their own
        problem = " ".join(f"{type(error).__name__}: {error}".replace(token, "(token)").split())
    if problem:  # raised out here: the other error's traceback holds the request with its headers
        raise ModelError(f"{export.kind} {export.run} was not pushed to {repository!r}: {problem}")
    return address


def _pushed(export: Export, repository: str, token: str, private: bool, endpoint: str | None) -> str:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token, library_name="clipdemo")
    sdk = {"space_sdk": "gradio"} if export.kind == "space" else {}
    address = api.create_repo(repository, repo_type=export.kind, private=private or None, exist_ok=True, **sdk)
    if private and not api.repo_info(address.repo_id, repo_type=export.kind).private:
        raise PermissionError("the repository is there and public: make it private first, or push to another")
    message = f"Run {export.run}, exported by clipdemo"
    api.create_commit(
        address.repo_id, _additions(export, address.repo_id), commit_message=message, repo_type=export.kind
    )
    return str(address)


def _additions(export: Export, repository: str) -> list[CommitOperationAdd]:
    """All files as they are, but that a model's configuration names the repository as the place of its tokenizer."""
    from huggingface_hub import CommitOperationAdd

    files: dict[str, Path | bytes] = {name: export.folder / name for name in export.files}
    config = read_json(export.folder / CONFIG) if CONFIG in files else {}
    text = config.get("model_cfg", {}).get("text_cfg", {})
    if text.get("hf_tokenizer_name"):
        text["hf_tokenizer_name"] = repository
        files[CONFIG] = json.dumps(config, indent=2).encode()
    return [CommitOperationAdd(name, content) for name, content in files.items()]
