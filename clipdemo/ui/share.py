"""The parts of the Share page: how this server is to be used, and who may do what on it."""

from __future__ import annotations

import os

import streamlit as st
from streamlit.errors import StreamlitAuthError

from clipdemo.hosting import ACTIONS
from clipdemo.training.runs import Run, readable_runs
from clipdemo.ui import acts, cached, projector, roles, state, widgets
from clipdemo.workspace import Workspace

_KINDS = {"model": "a model for open_clip", "space": "a Space that stands alone"}


def take_home(workspace: Workspace) -> None:
    """A run as a folder that open_clip loads, or as a Space; to download, or onto the Hub."""
    st.subheader("Take a model home", anchor=False)
    if roles.says_why_not("export"):
        return
    runs = {run.id: run for run in readable_runs(workspace) if run.result}
    if not runs:
        widgets.empty("**There is no finished run yet.**", "train", "Train one", ":material/model_training:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = runs[st.selectbox("Run", list(runs), format_func=lambda name: runs[name].name, width=320)]
        kind = st.segmented_control("As", list(_KINDS), default="model", required=True, format_func=_KINDS.get)
    st.caption(
        "With its weights as safetensors, and a card that says what it was trained on, what it reached and what it is "
        "not for. The same from the command line: `export RUN`, with `--as space` and `--push OWNER/NAME`."
    )
    if st.button("Prepare the download", icon=":material/inventory_2:"):
        with st.spinner("Writing and checking…"):
            st.session_state[state.EXPORT] = (run.id, kind, acts.export(workspace, run, kind))
    ready = st.session_state.get(state.EXPORT)
    if ready and ready[:2] == (run.id, kind):
        st.download_button(
            f"Download ({len(ready[2]) / 1e6:,.1f} MB)", ready[2], f"{kind}-{run.id}.zip", "application/zip",
            icon=":material/download:", on_click="ignore", type="primary",
        )  # fmt: skip
    with st.expander("Onto the Hugging Face Hub", icon=":material/cloud_upload:"):
        _onto_the_hub(workspace, run, kind)


def _onto_the_hub(workspace: Workspace, run: Run, kind: str) -> None:
    with st.form("hub", border=False, clear_on_submit=True):
        repository = st.text_input("Repository", placeholder="owner/name", max_chars=100)
        token = st.text_input(
            "Token with the right to write", type="password", autocomplete="off", max_chars=200,
            help="Used for this one push, then forgotten: it is in no file, log or address.",
        )  # fmt: skip
        private = st.toggle("Private", value=True)
        if st.form_submit_button("Push", icon=":material/cloud_upload:") and repository and token:
            with widgets.guarded(), st.spinner("Pushing…"):
                address = acts.publish(workspace, run, kind, repository.strip(), token.strip(), private)
                st.success(f"It is at {widgets.plain(address)}", icon=":material/check_circle:")


def other_ways() -> None:
    """The same classifier for programs."""
    st.subheader("For programs", anchor=False)
    st.markdown(
        "The classifier is also a [Gradio app with an API](/gradio) on this server: `classify`, `embed_image`, "
        "`embed_text` and `nearest_texts`; `docs/api.md` has examples. Every page’s address carries what it shows, so "
        "a link opens the same for others."
    )


def this_server(workspace: Workspace) -> None:
    """Who may do what here, the way to be the teacher, and how full the disk is."""
    st.subheader("This server", anchor=False)
    projector.switch()
    rules = roles.rules()
    if not rules.hosted:
        st.caption("It is your own: everybody who reaches it may do everything. Hosted, visitors only look.")
        return
    may = [what for action, what in ACTIONS.items() if roles.may(action)]
    who = "You are the teacher" if roles.is_teacher() else "You are a visitor"
    st.markdown(f"**{who}.** You may {', '.join(['browse, compare, explore and classify', *may])}.")
    _signing(bool(rules.code), bool(rules.teachers))
    if os.environ.get("CLIPDEMO_TEMPORARY") == "1":
        st.warning(
            "There is no lasting disk: everything is gone when this server restarts.", icon=":material/hard_drive:"
        )
    limits = rules.limits
    st.caption(
        f"Limits for everybody: {limits.samples:,} pictures a sample, {limits.epochs} epochs, {limits.queue} jobs, "
        f"{limits.upload_megabytes} MB at once, {limits.quota_gigabytes:g} GB in all."
    )
    if roles.is_teacher() and (warning := cached.usage(str(workspace.root), int(limits.quota_gigabytes * 1e9)).warning):
        st.warning(warning, icon=":material/hard_drive:")


def _signing(by_code: bool, by_account: bool) -> None:
    """In with the code or an account, and out again."""
    if roles.is_teacher():
        if st.button("Be a visitor again", icon=":material/logout:"):
            roles.leave()
        return
    if by_account and st.button("Sign in", icon=":material/login:"):
        try:
            st.login()
        except StreamlitAuthError:
            st.error("This server is not set up for signing in: docs/hosting.md says how.", icon=":material/error:")
    if by_code:
        with st.form("teacher", border=False, clear_on_submit=True):
            code = st.text_input("The teacher’s code", type="password", autocomplete="off", max_chars=200, width=320)
            if st.form_submit_button("Enter", icon=":material/key:") and code:
                with widgets.guarded():
                    if roles.enter(code):
                        st.rerun()
                    st.error("This is not the code.", icon=":material/error:")
    if not (by_code or by_account):
        st.caption("Nobody can sign in: neither CLIPDEMO_TEACHER_CODE nor CLIPDEMO_TEACHERS is set on this server.")
    if roles.signed_in():
        st.error("This account is not on the list of teachers.", icon=":material/error:")
        if st.button("Sign out", icon=":material/logout:"):
            roles.leave()
