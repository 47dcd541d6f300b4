"""The parts of the Share page: how this server is to be used, and who may do what on it."""

from __future__ import annotations

import streamlit as st

from clipdemo.hosting import ACTIONS
from clipdemo.ui import cached, projector, roles, state, widgets
from clipdemo.workspace import Workspace


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
            if roles.signed_in():
                st.logout()
            st.rerun()
        return
    if by_account and st.button("Sign in", icon=":material/login:"):
        st.login()
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
    if state.TEACHER not in st.session_state and by_account and roles.signed_in():
        st.error("This account is not on the list of teachers.", icon=":material/error:")
