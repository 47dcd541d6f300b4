import pytest

from clipdemo.examples import drawn_examples
from clipdemo.images import decode
from clipdemo.sources.bodyparts import BODY_PARTS
from tests import workspace_factory as factory


def test_examples_of_a_comparison_are_its_drawn_test_pictures(workspace):
    sample = factory.make_sample(workspace)
    comparison = factory.make_comparison(workspace, sample)
    found = drawn_examples(workspace, comparison.id, 3)
    rows = sample.rows("test")
    assert len(found) == 3
    for name, data in found.items():
        own = rows[rows["label"].str.lower() == name.removesuffix(".png")]
        assert data in [sample.picture(image) for image in own["image"]]


@pytest.mark.parametrize("name", [None, "builtin", "gone-comparison"])
def test_without_a_drawn_sample_new_ones_are_drawn(workspace, name):
    found = drawn_examples(workspace, name, 5)
    assert len(found) == 5 and {n.removesuffix(".png") for n in found} <= {part.lower() for part in BODY_PARTS}
    assert all(decode(data).size[0] > 32 for data in found.values())
