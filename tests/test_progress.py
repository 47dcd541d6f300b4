from clipdemo.progress import Progress, finish


def work():
    yield Progress(stage="a", done=0, total=1)
    return "result"


def whole():
    first = yield from work()
    return first + "!"


def test_finish_returns_what_the_activity_returns():
    assert finish(work()) == "result"
    assert finish(whole()) == "result!"
