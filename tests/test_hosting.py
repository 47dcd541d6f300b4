import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from clipdemo.errors import BadSettings, Forbidden
from clipdemo.hosting import ACTIONS, Door, Policy, policy, visitor

CODE = {"CLIPDEMO_TEACHER_CODE": "correct horse"}


@pytest.mark.parametrize(
    ("address", "forwarded", "who"),
    [
        ("8.8.8.8", None, "8.8.8.8"),
        ("8.8.8.8", "9.9.9.9", "8.8.8.8"),  # not from a proxy: anybody can write this header
        ("127.0.0.1", "9.9.9.9", "9.9.9.9"),
        ("10.0.0.2", "1.1.1.1, 9.9.9.9", "9.9.9.9"),  # the first may be made up
        ("10.0.0.2", "9.9.9.9, 10.0.0.9", "9.9.9.9"),  # two proxies
        ("10.0.0.2", "nonsense, ,", "10.0.0.2"),
        ("192.168.1.7", None, "192.168.1.7"),
        ("fd00::1", "2001:4860:4860::8888", "2001:4860:4860::8888"),
        (None, "9.9.9.9", "unknown"),
        ("testserver", "9.9.9.9", "testserver"),
    ],
)
def test_wrong_codes_are_counted_for_whom_a_proxy_speaks_for(address, forwarded, who):
    assert visitor(address, forwarded) == who


def test_on_a_laptop_everybody_may_do_everything():
    rules = policy({})
    assert not rules.hosted and all(rules.allows(action, teacher=False) for action in ACTIONS)
    rules.check_size({"sample": {"samples": 10**9}}, waiting=10**6)
    rules.check_upload(10**12)


@pytest.mark.parametrize(
    ("environment", "hosted"),
    [
        ({"SPACE_ID": "me/space"}, True),
        ({"SPACE_ID": "me/space", "CLIPDEMO_HOSTED": "0"}, False),
        ({"CLIPDEMO_HOSTED": "1"}, True),
        ({"CLIPDEMO_HOSTED": "True"}, True),
        ({"SPACE_ID": ""}, False),
    ],
)
def test_a_space_is_hosted_unless_its_owner_says_otherwise(environment, hosted):
    assert policy(environment).hosted is hosted


def test_hosted_a_visitor_may_do_none_of_it_and_the_teacher_all():
    rules = policy({"CLIPDEMO_HOSTED": "1"} | CODE)
    for action in ACTIONS:
        assert rules.allows(action, teacher=True)
        with pytest.raises(Forbidden, match="the teacher signs in"):
            rules.check(action, teacher=False)


def test_an_owner_can_open_some_of_it_to_visitors():
    rules = policy({"CLIPDEMO_HOSTED": "1", "CLIPDEMO_VISITORS_MAY": "draw, Train"})
    assert {action for action in ACTIONS if rules.allows(action, teacher=False)} == {"draw", "train"}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"CLIPDEMO_HOSTED": "perhaps"}, "CLIPDEMO_HOSTED"),
        ({"CLIPDEMO_TEACHER_CODE": "short"}, "5 characters"),
        ({"CLIPDEMO_VISITORS_MAY": "fly"}, "'fly'"),
        ({"CLIPDEMO_MAX_EPOCHS": "many"}, "CLIPDEMO_MAX_EPOCHS = 'many'"),
        ({"CLIPDEMO_MAX_QUEUE": "0"}, "queue"),
    ],
)
def test_a_broken_environment_is_named(environment, named):
    with pytest.raises(BadSettings, match=named):
        policy(environment)


def test_the_code_is_in_no_text_of_the_policy():
    rules = policy({"CLIPDEMO_HOSTED": "1"} | CODE)
    assert "horse" not in f"{rules!r} {rules} {rules.model_dump_json()}"


@pytest.mark.parametrize(
    "settings",
    [
        {"sample": {"samples": 5000}},
        {"runs": [{"epochs": 3}, {"epochs": 21}]},
        {"sweep": {"runs": [{"epochs": 1000}]}},
    ],
)
def test_nobody_gets_past_the_limits(settings):
    rules = policy({"CLIPDEMO_HOSTED": "1"})
    with pytest.raises(Forbidden, match="at most"):
        rules.check_size(settings, waiting=0)
    with pytest.raises(Forbidden, match="jobs run or wait"):
        rules.check_size({}, waiting=rules.limits.queue)
    with pytest.raises(Forbidden, match="201 MB"):
        rules.check_upload(201_000_000)


def test_limits_come_from_the_environment():
    limits = policy({"CLIPDEMO_MAX_SAMPLES": "64", "CLIPDEMO_QUOTA_GIGABYTES": "0.5"}).limits
    assert (limits.samples, limits.quota_gigabytes, limits.epochs) == (64, 0.5, 20)


def test_a_teacher_is_known_by_name_or_by_a_verified_address():
    rules = Policy(hosted=True, teachers=frozenset({"ada", "ada@example.org"}))
    assert rules.is_teacher({"preferred_username": "Ada"})
    assert rules.is_teacher({"email": "ADA@example.org", "email_verified": True})
    assert not rules.is_teacher({"email": "ada@example.org"})
    assert not rules.is_teacher({"email": "ada@example.org", "email_verified": "true"})
    assert not rules.is_teacher({"name": "ada"}) and not rules.is_teacher({})


@pytest.mark.parametrize("claim", ["preferred_username", "sub"])
def test_a_name_that_looks_like_an_address_is_none(claim):
    """Some providers let people choose one, and ask nobody whether it is theirs."""
    rules = Policy(hosted=True, teachers=frozenset({"ada", "ada@example.org"}))
    assert not rules.is_teacher({claim: "ada@example.org"})
    assert rules.is_teacher({claim: "ada@example.org", "email": "ada@example.org", "email_verified": True})


def test_wrong_codes_are_counted_for_each_visitor_and_forgotten_after_a_while():
    now = [0.0]
    door, code = Door(lambda: now[0]), SecretStr("correct horse")
    for _ in range(Door.MINE):
        assert not door.opens(code, "wrong", "me")
    with pytest.raises(Forbidden, match="too many"):
        door.opens(code, "correct horse", "me")
    assert door.opens(code, "correct horse", "somebody else")
    now[0] = Door.SECONDS + 1
    assert door.opens(code, "correct horse", "me")


def test_many_addresses_meet_a_common_limit():
    door, code = Door(), SecretStr("correct horse")
    for number in range(Door.ALL):
        assert not door.opens(code, "wrong", str(number))
    with pytest.raises(Forbidden, match="too many"):
        door.opens(code, "wrong", "another")


@given(said=st.text())
def test_without_a_code_no_word_opens(said):
    assert not Door().opens(None, said, "me")
