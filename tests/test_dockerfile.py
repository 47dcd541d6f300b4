"""What a Docker Space would do, as far as that can be known without Docker: see tools/like_docker.py."""

import re
import stat
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import container
from clipdemo.errors import BadSettings, WorkspaceError
from tools import like_docker
from tools.like_docker import ROOT, Image, Unknown, ignored, parse, rules_of

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SPACE = {
    "OAUTH_CLIENT_ID": "a-client",
    "OAUTH_CLIENT_SECRET": 'se"cr\\et',
    "OPENID_PROVIDER_URL": "https://huggingface.co",
    "OAUTH_SCOPES": "openid profile",
    "SPACE_HOST": "me-clipdemo.hf.space",
}


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A container's, without a disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return {"HOME": str(tmp_path / "home"), "CLIPDEMO_DATA": str(tmp_path / "data")}


# ---- the image


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "server.log"
    return list(like_docker.check(log)), log


def test_everything_that_a_container_ought_to_do_it_does(checks):
    found, log = checks
    failed = [f"{check.claim}: {check.found}" for check in found if check.held is False]
    assert not failed, log.read_text()[-3000:]


def test_the_checks_went_to_their_end(checks):
    found, _ = checks
    claims = [check.claim for check in found]
    assert len(claims) == len(set(claims)) == 23
    assert claims[0] == "the image is built" and claims[-1] == "nothing is written elsewhere"


def test_only_what_needs_another_user_may_be_left_out(checks):
    found, _ = checks
    left_out = {check.claim for check in found if check.held is None}
    of_users = {
        "the user can write none of the code",
        "all of the workspace is the user's",
        "nothing is written elsewhere",
    }
    assert left_out in (set(), of_users)


def test_the_readme_tells_a_space_what_the_dockerfile_does():
    front = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n")
    said, image = yaml.safe_load(front[1]), parse(DOCKERFILE)
    assert front[0] == "" and said["sdk"] == "docker" and said["license"] == "apache-2.0"
    assert said["app_port"] == image.port == int(image.environment["STREAMLIT_SERVER_PORT"]) == 8501
    assert image.user == "1000" and "--uid 1000" in DOCKERFILE


def test_the_image_holds_no_secret_and_guards_itself():
    image = parse(DOCKERFILE)
    named = [name for name in image.environment | image.arguments if re.search("SECRET|TOKEN|PASSWORD|_CODE", name)]
    assert not named
    assert image.environment["CLIPDEMO_HOSTED"] == "1"
    rules = rules_of((ROOT / ".dockerignore").read_text(encoding="utf-8"))
    assert all(ignored(path, rules) for path in (".streamlit/secrets.toml", ".git/config", ".venv/bin/python"))


def test_protection_against_forged_uploads_is_off_in_the_image_only():
    assert parse(DOCKERFILE).environment["STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION"] == "false"
    assert "enableXsrfProtection" not in (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")


def test_torch_and_torchvision_come_from_one_index_that_a_build_can_change():
    image = parse(DOCKERFILE)
    assert image.arguments == {"TORCH_INDEX": "https://download.pytorch.org/whl/cpu"}
    (install,) = [line for line in image.runs if "pip " in line]
    assert 'torch torchvision --index-url "$TORCH_INDEX"' in install.partition("&&")[0]


# ---- the parser


def test_a_small_dockerfile_read_by_eye():
    text = '# why\nFROM base:1\nENV A=1 \\\n    B="two words"\n# in between\nCOPY a b/ /c/\nCMD ["x", "y"]\n'
    assert parse(text) == Image(
        base="base:1", environment={"A": "1", "B": "two words"}, copies=[(["a", "b/"], "/c/")], command=["x", "y"]
    )


@pytest.mark.parametrize(
    "line",
    [
        "ADD a b", "COPY --from=other a b", "FROM a AS b", "RUN --mount=type=cache x", 'RUN ["x"]', "CMD python x",
        "ENTRYPOINT [\"x\"]", "ENV A", "ENV A=$B", "EXPOSE 80 81", "EXPOSE http", "WORKDIR here", "SHELL [\"sh\"]",
        "HEALTHCHECK CMD curl x", "RUN x \\", "CMD []", "env A=1",
    ],
)  # fmt: skip
def test_what_the_parser_would_have_to_guess_at_is_refused(line):
    with pytest.raises(Unknown, match=re.escape(line.split()[0])):
        parse(line)


@pytest.mark.parametrize(
    ("rule", "path", "out"),
    [
        ("**/__pycache__", "__pycache__/a.pyc", True),
        ("**/__pycache__", "a/b/__pycache__/c.pyc", True),
        ("**/*.py[cod]", "a/b.pyc", True),
        ("**/*.py[cod]", "a/b.py", False),
        ("docs", "docs/a.md", True),
        ("docs", "a/docs/b.md", False),
        ("*.md", "a.md", True),
        ("*.md", "a/b.md", False),
        ("a?c", "abc", True),
        ("a.c", "abc", False),
    ],
)
def test_dockerignore_leaves_out_what_it_names(rule, path, out):
    assert ignored(path, [rule]) is out


def test_the_last_rule_of_dockerignore_wins():
    assert not ignored("docs/a.md", ["docs", "!docs/a.md"])
    assert ignored("docs/a.md", ["!docs/a.md", "docs"])


def test_a_copy_of_what_is_not_there_is_refused(tmp_path):
    (tmp_path / ".dockerignore").write_text("secret\n")
    (tmp_path / "secret").write_text("x")
    for name in ("secret", "missing"):
        with pytest.raises(Unknown, match=name):
            like_docker.copy(Image(copies=[([name], "there/")]), tmp_path, tmp_path / "root")


# ---- what the container does first


def test_a_disk_that_can_be_written_holds_the_workspace(environment, tmp_path):
    (tmp_path / "data").mkdir()
    ready = container.prepared(environment)
    assert ready["CLIPDEMO_WORKSPACE"] == str(tmp_path / "data" / "clipdemo")
    assert "CLIPDEMO_TEMPORARY" not in ready


def test_without_a_disk_it_is_said_that_nothing_lasts(environment, tmp_path):
    (tmp_path / "data").write_text("a file is no disk")
    ready = container.prepared(environment)
    assert ready["CLIPDEMO_WORKSPACE"] == str(tmp_path / "tmp" / "clipdemo")
    assert ready["CLIPDEMO_TEMPORARY"] == "1"


def test_an_owners_own_workspace_stays(environment, tmp_path):
    (tmp_path / "data").mkdir()
    ready = container.prepared(environment | {"CLIPDEMO_WORKSPACE": "/mine"})
    assert ready["CLIPDEMO_WORKSPACE"] == "/mine" and "CLIPDEMO_TEMPORARY" not in ready


@pytest.mark.parametrize(
    ("given", "most"),
    [({}, "200"), ({"CLIPDEMO_MAX_UPLOAD_MEGABYTES": "5"}, "5"), ({"STREAMLIT_SERVER_MAX_UPLOAD_SIZE": "7"}, "7")],
)
def test_the_server_refuses_uploads_past_the_limit(environment, given, most):
    assert container.prepared(environment | given)["STREAMLIT_SERVER_MAX_UPLOAD_SIZE"] == most


def test_a_broken_setting_ends_the_container_before_the_server_starts(environment):
    with pytest.raises(BadSettings, match="5 characters"):
        container.prepared(environment | {"CLIPDEMO_TEACHER_CODE": "short"})


# ---- signing in


@pytest.fixture
def signing(environment, tmp_path, monkeypatch):
    """Streamlit's own view of the file that was written."""
    from streamlit.runtime.secrets import Secrets

    ready = container.prepared(environment | SPACE)
    path = tmp_path / "home" / ".streamlit" / "secrets.toml"
    read = Secrets()
    monkeypatch.setattr("streamlit.config.get_option", _with_secrets(path))
    for module in ("streamlit.auth_util", "streamlit.web.server.server_util"):
        monkeypatch.setattr(f"{module}.secrets_singleton", read)
    return path, ready


def _with_secrets(path):
    from streamlit import config

    plain = config.get_option
    mine = {"secrets.files": [str(path)], "server.enableXsrfProtection": False, "server.fileWatcherType": "none"}
    return lambda name: mine[name] if name in mine else plain(name)


def test_streamlit_takes_the_file_for_st_login(signing):
    from streamlit import auth_util

    auth_util.validate_auth_credentials("default")
    section = auth_util.get_secrets_auth_section()
    assert auth_util.get_validated_redirect_uri() == "https://me-clipdemo.hf.space/oauth2callback"
    provider = auth_util.generate_default_provider_section(section)
    assert provider == {
        "client_id": "a-client",
        "client_secret": SPACE["OAUTH_CLIENT_SECRET"],
        "server_metadata_url": "https://huggingface.co/.well-known/openid-configuration",
        "client_kwargs": {"scope": "openid profile"},
    }


def test_with_sign_in_streamlit_protects_uploads_whatever_is_set(signing):
    from streamlit.web.server.server_util import is_xsrf_enabled

    assert is_xsrf_enabled()  # docs/hosting.md says what that means in a Space's frame


def test_only_the_user_can_read_the_secrets_and_jobs_do_not_get_them(signing):
    path, ready = signing
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "OAUTH_CLIENT_SECRET" not in ready


def test_an_older_file_is_replaced_and_its_wider_mode_with_it(environment, tmp_path):
    path = tmp_path / "home" / ".streamlit" / "secrets.toml"
    path.parent.mkdir(parents=True)
    path.write_text("old")
    path.chmod(0o644)
    container.prepared(environment | SPACE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "old" not in path.read_text()


def test_every_start_has_another_secret_for_its_cookies():
    first, second = (tomllib.loads(container.sign_in(SPACE))["auth"]["cookie_secret"] for _ in range(2))
    assert first != second and len(first) == len(second) == 64


def test_the_address_is_asked_for_only_where_the_space_may():
    scopes = SPACE | {"OAUTH_SCOPES": "openid profile email read-repos"}
    assert tomllib.loads(container.sign_in(scopes))["auth"]["client_kwargs"]["scope"] == "openid profile email"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_secret_survives_the_file(secret):
    written = tomllib.loads(container.sign_in(SPACE | {"OAUTH_CLIENT_SECRET": secret}))
    assert written["auth"]["client_secret"] == secret


@pytest.mark.parametrize("name", ["OAUTH_CLIENT_SECRET", "OPENID_PROVIDER_URL", "SPACE_HOST"])
def test_half_a_client_is_refused(name):
    with pytest.raises(BadSettings, match=f"OAUTH_CLIENT_ID is set, {name} not"):
        container.sign_in(SPACE | {name: ""})


def test_without_a_client_nothing_is_written(environment, tmp_path):
    container.prepared(environment | {"SPACE_HOST": "me-clipdemo.hf.space"})
    assert not (tmp_path / "home").exists()


def test_a_home_that_cannot_be_written_is_named(environment, tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(WorkspaceError, match=r"secrets\.toml"):
        container.prepared(environment | SPACE)
