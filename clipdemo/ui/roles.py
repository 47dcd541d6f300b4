"""Who looks at the page: on a laptop somebody who may do everything, hosted a visitor or the teacher."""

from __future__ import annotations

import streamlit as st

from clipdemo.hosting import ACTIONS, Action, Door, Policy, policy, visitor
from clipdemo.ui import cached, state

ANYBODY = "Only the teacher can {what} here."


def rules() -> Policy:
    """What is allowed on this server. Raises `BadSettings`."""
    return policy()


def is_teacher() -> bool:
    """Whether this session knows the code, or is signed in as one of the teachers."""
    if st.session_state.get(state.TEACHER) is True:
        return True
    return signed_in() and _for_this_app() and rules().is_teacher(st.user.to_dict())


def signed_in() -> bool:
    """Whether this session is signed in by OpenID Connect, where the server is set up for that."""
    return bool(getattr(st.user, "is_logged_in", False))


def _for_this_app() -> bool:
    """Whether the provider's word is meant for this app. Authlib takes another's too, where `azp` says we asked."""
    auth, audience = st.secrets["auth"], st.user.get("aud")
    client = auth.get("default", auth)["client_id"]
    return client in (audience if isinstance(audience, list) else [audience])


def may(action: Action) -> bool:
    """Whether this session may do it."""
    return rules().allows(action, is_teacher())


def require(action: Action) -> None:
    """Raises `Forbidden` where this session may not."""
    rules().check(action, is_teacher())


def says_why_not(action: Action) -> bool:
    """Whether this session may not do it; then one line in place of the form says so."""
    if may(action):
        return False
    st.page_link(state.PAGES["share"], label=ANYBODY.format(what=ACTIONS[action]), icon=":material/lock:")
    return True


def button(action: Action, label: str, **settings: object) -> bool:
    """A button for what only some may do: for all others it cannot be pressed, and says why."""
    if not may(action):
        settings |= {"disabled": True, "help": ANYBODY.format(what=ACTIONS[action])}
    return st.button(label, **settings)


def enter(code: str) -> bool:
    """Makes this session the teacher's where the code is right. Raises `Forbidden` after too many wrong ones."""
    door: Door = cached.door()
    right = door.opens(rules().code, code, visitor(st.context.ip_address, st.context.headers.get("X-Forwarded-For")))
    if right:
        st.session_state[state.TEACHER] = True
    return right


def leave() -> None:
    """Makes this session a visitor's again. One that is signed in is sent away, and comes back without its cookie."""
    st.session_state.pop(state.TEACHER, None)
    if signed_in():
        st.logout()  # a rerun now would often overtake the message that sends the browser, which would keep its cookie
    else:
        st.rerun()
