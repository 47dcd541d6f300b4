import struct

from clipdemo.records import RunConfig
from clipdemo.training.tensorboard import TAGS, write_events
from tests import workspace_factory as factory


def scalars(folder):
    """{tag: {step: value}} of the event file, read record by record: length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    data, found = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        data = data[16 + length :]
    return found


def test_every_number_of_a_run_is_in_its_event_file_once(workspace):
    run = factory.make_run(workspace, factory.make_sample(workspace), RunConfig(mode="labels"))
    write_events(run)
    found = scalars(write_events(run))  # again: the old file is replaced
    for tag, field in TAGS.items():
        expected = {step.step: getattr(step, field) for step in run.steps() if getattr(step, field) is not None}
        assert found.get(tag, {}).keys() == expected.keys()
        assert all(abs(found[tag][step] - value) < 1e-6 for step, value in expected.items())
