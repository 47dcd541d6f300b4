import numpy as np
import pytest

from benchmarks import explore_page
from clipdemo.embeddings import unit_rows
from clipdemo.models import Clip, open_model
from tests import workspace_factory as factory


@pytest.fixture
def wide(workspace):
    """150 rows made of 60."""
    return explore_page._widened(workspace, factory.make_sample(workspace), 150)


def test_more_rows_repeat_pictures_under_captions_and_ids_of_their_own(wide):
    manifest = wide.manifest
    assert (manifest["id"].nunique(), manifest["caption"].nunique(), manifest["image"].nunique()) == (150, 150, 60)
    assert wide.sizes == {"train": 90, "validation": 30, "test": 30} == manifest["split"].value_counts().to_dict()
    assert (manifest.groupby("image")[["split", "label"]].nunique() == 1).all(axis=None)
    assert all(wide.picture(image) for image in manifest["image"])


def test_indexes_are_built_of_made_up_embeddings_and_no_picture_is_encoded(wide, workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(Clip, "encode_images", None)
    base = f"local-dir:{explore_page._turned_base(tmp_path / 'base', 256)}"
    found = explore_page._looked_at(workspace, wide, None, base, seed=0)
    assert found == {"pictures": "exact", "captions": "exact"}
    shapes = {np.load(file).shape for file in (workspace.root / "embeddings").glob("*/*.npy")}
    assert (150, 256) in shapes


def test_a_turned_base_has_the_built_in_models_cosines(tmp_path):
    texts = ["an X-ray of the chest", "an MRI of the brain", "a photograph of the retina"]
    turned = open_model(f"local-dir:{explore_page._turned_base(tmp_path / 'base', 256)}")
    rows = [unit_rows(clip.encode_texts(texts)) for clip in (open_model(), turned)]
    assert rows[1].shape == (3, 256)
    np.testing.assert_allclose(rows[1] @ rows[1].T, rows[0] @ rows[0].T, atol=1e-4)
