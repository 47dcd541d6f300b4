"""Signing in to a hosted app by OpenID Connect, whole: a container's settings, `streamlit run`, and a provider.

Browsers come as through a Space's proxy: they know the app by https and a name, the app hears plain HTTP from there.
"""

import http.client
import json
import tomllib
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from clipdemo import container
from clipdemo.workspace import Workspace
from tests import workspace_factory as factory
from tests.oidc_standin import SPOILED, Provider
from tools.serving import served
from tools.session import Session, cookie_header

NAME = "me-clipdemo.example"
ORIGIN = f"https://{NAME}"
SECRET = "the client's se/cr+et"
ADA = {"sub": "5f0c51fd", "preferred_username": "ada", "name": "Ada", "picture": "https://example.org/ada.png"}
GRACE = {"sub": "60e13b2a", "preferred_username": "hopper", "email": "Grace@example.org", "email_verified": True}
EVE = {"sub": "66ab0c77", "preferred_username": "eve", "name": "ada", "email": "e@example.org", "email_verified": True}


class Browser:
    """Cookies, and what a browser and the proxy before the app do with them. `heard` is all that came from the app."""

    def __init__(self, inside: str) -> None:
        self.inside = inside
        self.cookies: dict[str, str] = {}
        self.heard: list[bytes] = []

    def get(self, address: str) -> str:
        """Asks once; where the answer sends the browser on, or ""."""
        where = urlsplit(address)
        app = where.netloc == NAME
        assert app == (where.scheme == "https")
        connection = http.client.HTTPConnection(urlsplit(self.inside).netloc if app else where.netloc, timeout=60)
        try:
            headers = {"Host": where.netloc} | ({"Cookie": cookie_header(self.cookies)} if app else {})
            connection.request("GET", where._replace(scheme="", netloc="").geturl(), headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status < 400, body
        if app:
            self.heard += [body, str(answer.headers).encode()]
            self._keep(answer.headers.get_all("Set-Cookie", []))
        found = answer.headers.get("Location")
        return urljoin(address, found) if found else ""

    def _keep(self, lines: list[str]) -> None:
        for line in lines:
            for name, cookie in SimpleCookie(line).items():
                if cookie["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = cookie.coded_value

    def follow(self, address: str, until: str = "") -> str:
        """Goes where it is sent, to the end or to an address that has `until` in it; the last address."""
        while address and not (until and until in address):
            last, address = address, self.get(address)
        return address or last

    @contextmanager
    def page(self, name: str = "share", query: str = ""):
        self.get(f"{ORIGIN}/_stcore/health")  # as every page does first; it gives the cookie that websockets need
        with Session(self.inside, name, query, self.heard.append, ORIGIN, self.cookies) as session:
            yield session

    def begin(self) -> str:
        """Presses the button on the page; the address that it leads to."""
        with self.page() as share:
            press(share, "Sign in")
            assert share.redirect
            return urljoin(ORIGIN, share.redirect)

    def sign_in(self) -> str:
        return self.follow(self.begin())

    def says(self) -> str:
        with self.page() as share:
            return said(share)


def press(session, label):
    session.set(session.named(label).id, trigger_value=True)


def said(session):
    """What a page says; nothing on it may have gone wrong."""
    assert not session.exceptions
    return " ".join(session.texts)


@pytest.fixture(scope="module")
def provider():
    with Provider("a-client", SECRET, f"{ORIGIN}/oauth2callback") as started:
        yield started


@pytest.fixture(autouse=True)
def ada_comes(provider):
    provider.account, provider.spoil = ADA, ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the app lives: workspace, home, and what the server prints."""
    return tmp_path_factory.mktemp("hosted")


@pytest.fixture(scope="module")
def place(folder):
    return Workspace(folder / "workspace")


@pytest.fixture(scope="module")
def inside(provider, place, folder):
    """The address of an app whose settings a container has made from a Space's variables."""
    space = {
        "HOME": str(folder / "home"), "CLIPDEMO_WORKSPACE": str(place.root), "CLIPDEMO_HOSTED": "1",
        "CLIPDEMO_TEACHERS": "Ada, grace@example.org", "OAUTH_CLIENT_ID": provider.client,
        "OAUTH_CLIENT_SECRET": SECRET, "OPENID_PROVIDER_URL": provider.url, "OAUTH_SCOPES": "openid profile email",
        "SPACE_HOST": NAME, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "false",  # the Dockerfile's
    }  # fmt: skip
    with served(place.root, folder / "server.log", **container.prepared(space)) as address:
        yield address


@pytest.fixture
def browser(inside):
    return Browser(inside)


@pytest.mark.parametrize("account", [ADA, ADA | {"preferred_username": "ADA"}, GRACE], ids=["ada", "ADA", "grace"])
def test_an_account_on_the_list_is_the_teacher(browser, provider, account):
    assert "You are a visitor" in browser.says()
    provider.account = account
    assert browser.sign_in() == f"{ORIGIN}/"
    assert "You are the teacher" in browser.says()


@pytest.mark.parametrize(
    "account",
    [
        EVE,
        GRACE | {"email_verified": False},
        {name: value for name, value in GRACE.items() if name != "email_verified"},
        {"sub": "2", "name": "Ada", "nickname": "ada", "profile": "ada"},
        {"sub": "3", "preferred_username": "ada ", "email": "ada@example.org", "email_verified": True},
        {"sub": "4", "preferred_username": "grace@example.org"},
    ],
    ids=["eve", "not verified", "nothing about it", "other claims", "nearly", "an address as a name"],
)
def test_another_account_stays_a_visitor_and_is_told_why(browser, provider, account):
    provider.account = account
    browser.sign_in()
    says = browser.says()
    assert "You are a visitor" in says and "This account is not on the list of teachers" in says


def test_only_the_teacher_may_act(browser, inside, provider, place):
    """Whoever signed in knows the button, and presses it whether it is shown or not."""
    sample = factory.make_sample(place)
    browser.sign_in()
    with browser.page("data", f"sample={sample.id}") as teacher:
        button = teacher.named("Delete it for good").id
    provider.account, other = EVE, Browser(inside)
    other.sign_in()
    with other.page("data", f"sample={sample.id}") as visitor:
        visitor.set(button, trigger_value=True)
        said(visitor)
    assert place.names("samples") == [sample.id]
    with browser.page("data", f"sample={sample.id}") as teacher:
        teacher.set(button, trigger_value=True)
        said(teacher)
    assert place.names("samples") == []


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_token_that_is_not_quite_right_makes_nobody_the_teacher(browser, provider, spoil):
    provider.spoil, before = spoil, len(provider.answered)
    assert browser.sign_in() == f"{ORIGIN}/"
    assert len(provider.answered) == before + 1
    assert "You are a visitor" in browser.says()


def test_a_token_for_this_app_and_another_will_do(browser, provider):
    provider.account = ADA | {"aud": ["another-client", provider.client], "azp": provider.client}
    browser.sign_in()
    assert "You are the teacher" in browser.says()


def test_an_answer_to_another_question_is_not_taken(browser, provider):
    answer = browser.follow(browser.begin(), "/oauth2callback")
    state = parse_qs(urlsplit(answer).query)["state"][0]
    before = len(provider.answered)
    for wrong in (answer.replace(state, state[::-1]), answer.replace(state, ""), answer.replace("state", "estate")):
        browser.follow(wrong)
        assert len(provider.answered) == before  # the code was not even tried
        assert "You are a visitor" in browser.says()
    browser.follow(answer)  # and the right one still is
    assert "You are the teacher" in browser.says()


def test_an_answer_to_another_browser_signs_nobody_in(browser, inside, provider):
    """Else a link could sign people in to an account that is not theirs, or carry the teacher's answer away."""
    answer = browser.follow(browser.begin(), "/oauth2callback")
    stranger, before = Browser(inside), len(provider.answered)
    stranger.begin()  # with a question of its own under way
    for _ in range(2):
        stranger.follow(answer)
        assert "You are a visitor" in stranger.says()
    assert len(provider.answered) == before


def test_an_answer_is_taken_once(browser):
    answer = browser.follow(browser.begin(), "/oauth2callback")
    browser.follow(answer)
    signed_out = {name: value for name, value in browser.cookies.items() if "user" not in name}
    browser.cookies = signed_out
    browser.follow(answer)
    assert "You are a visitor" in browser.says()


def test_a_made_up_code_opens_nothing(browser, provider):
    answer = browser.follow(browser.begin(), "/oauth2callback")
    code = parse_qs(urlsplit(answer).query)["code"][0]
    browser.follow(answer.replace(code, "made-up"))
    assert provider.refused[-1] == "invalid_grant"
    assert "You are a visitor" in browser.says()


def test_somebody_who_says_no_at_the_provider_stays_a_visitor(browser):
    answer = browser.follow(browser.begin(), "/oauth2callback")
    state = parse_qs(urlsplit(answer).query)["state"][0]
    assert browser.follow(f"{ORIGIN}/oauth2callback?error=access_denied&state={state}") == f"{ORIGIN}/"
    assert "You are a visitor" in browser.says()


def test_a_cookie_that_somebody_else_signed_is_no_sign_in(browser):
    known = ADA | {"is_logged_in": True, "origin": ORIGIN, "provider": "default"}
    for secret in ("", "a guess", SECRET):
        signed = create_signed_value(secret, "_streamlit_user", json.dumps(known)).decode()
        browser.cookies["_streamlit_user"] = signed
        assert "You are a visitor" in browser.says()


def test_a_page_elsewhere_cannot_use_the_teachers_cookies(browser, inside):
    """It can have them sent, but it cannot read the one that a websocket has to repeat."""
    browser.sign_in()
    cookies = {name: value for name, value in browser.cookies.items() if name != "_streamlit_xsrf"}
    with Session(inside, "share", origin=ORIGIN, cookies=cookies) as session:
        assert "You are a visitor" in said(session)


def _kind(message):
    return ForwardMsg.FromString(message).WhichOneof("type")


def test_who_signs_out_is_a_visitor_now_and_after_a_reload(browser):
    browser.sign_in()
    with browser.page() as share:
        before = len(browser.heard)
        press(share, "Be a visitor again")
        # A page cannot take the cookie away. A second run at once would lose the word that sends the browser.
        runs = [message for message in browser.heard[before:] if _kind(message) == "new_session"]
        assert share.redirect and len(runs) == 1
        browser.follow(urljoin(ORIGIN, share.redirect))
        share.run()
        assert "You are a visitor" in said(share)
    assert not [name for name in browser.cookies if name.startswith("_streamlit_user")]
    assert "You are a visitor" in browser.says()


def test_an_account_that_is_not_on_the_list_can_sign_out_too(browser, provider):
    provider.account = EVE
    browser.sign_in()
    with browser.page() as share:
        press(share, "Sign out")
        browser.follow(urljoin(ORIGIN, share.redirect))
    says = browser.says()
    assert "You are a visitor" in says and "not on the list" not in says
    provider.account = ADA
    browser.sign_in()
    assert "You are the teacher" in browser.says()


def test_a_page_that_was_open_when_another_signed_out_is_a_visitors_after_its_reload(browser):
    """Until then Streamlit leaves it as it is, which docs/hosting.md says."""
    browser.sign_in()
    with browser.page() as other, browser.page() as share:
        press(share, "Be a visitor again")
        browser.follow(urljoin(ORIGIN, share.redirect))
        other.run()
        assert "You are the teacher" in said(other)
    assert "You are a visitor" in browser.says()


def test_one_visitors_sign_in_makes_no_other_session_the_teachers(browser, inside):
    early, late = Browser(inside), Browser(inside)
    with early.page() as before, browser.page() as same:
        browser.sign_in()
        assert "You are the teacher" in browser.says()
        for session in (before, same):  # a session that was open stays what it was, in the same browser too
            session.run()
            assert "You are a visitor" in said(session)
        assert "You are a visitor" in late.says()


def test_a_space_asks_for_what_its_scopes_allow_and_says_who_it_is(browser, provider):
    browser.sign_in()
    asked = provider.asked[-1]
    assert asked["scope"] == "openid profile email" and asked["redirect_uri"] == f"{ORIGIN}/oauth2callback"
    assert asked["nonce"] and asked["state"] and "client_secret" not in asked


def test_no_secret_is_in_a_log_a_page_or_a_file_of_the_workspace(browser, inside, provider, place, folder):
    browser.sign_in()
    assert "You are the teacher" in browser.says()
    browser.get(f"{ORIGIN}/")
    provider.spoil, other = "another key", Browser(inside)
    other.sign_in()  # goes wrong, and into the log
    heard = [*browser.heard, *other.heard]
    written = tomllib.loads((folder / "home" / ".streamlit" / "secrets.toml").read_text())["auth"]
    assert written["client_secret"] == SECRET
    hidden = [SECRET, written["cookie_secret"], *(str(answer["access_token"]) for answer in provider.answered)]
    hidden += [str(answer["id_token"]) for answer in provider.answered if "id_token" in answer]
    files = [path for path in place.root.rglob("*") if path.is_file()]
    log = (folder / "server.log").read_bytes()
    assert b"bad_signature" in log and any(
        b"You are the teacher" in text for text in heard
    )  # we look at the right ones
    for secret in hidden:
        assert not any(secret.encode() in text for text in (log, *heard))
        assert not any(secret.encode() in path.read_bytes() for path in files)
