import numpy as np
import pytest

from clipdemo.appearance import COLOURS, KINDS, SIGNS, appearances, of_kind, seed_groups
from clipdemo.records import Comparison, Evaluation, RunConfig, SampleConfig


def evaluation(name, key, run=None, base="builtin", template="a {label}"):
    return Evaluation(
        name=name, run=run, base=base, sample="s", sample_hash="h", template=template, predictions=key, n=4,
        logit_scale=10,
    )  # fmt: skip


def compared(models, runs=None):
    return Comparison(
        id="c", sample="s", sample_hash="h", sample_config=SampleConfig(), synthetic=True, version="0",
        sizes={"train": 4, "validation": 4, "test": 4}, runs=runs or {}, models=models,
    )  # fmt: skip


@pytest.mark.parametrize("ground", ["#FFFFFF", "#12171D"])
def test_all_colours_show_on_the_light_and_the_dark_ground(ground):
    def luminance(colour):
        c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for colour in [shade for shades in COLOURS.values() for shade in shades]:  # WCAG 2, 1.4.11: graphics need 3:1
        low, high = sorted([luminance(colour), luminance(ground)])
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_no_two_kinds_share_a_sign_or_a_colour():
    assert len(set(SIGNS.values())) == len(KINDS)
    shades = [shade for shades in COLOURS.values() for shade in shades]
    assert len(set(shades)) == len(shades)


def test_one_model_a_kind_is_called_by_its_kind():
    looks = appearances(
        compared([evaluation("base", "b"), evaluation("labels", "l", "r1")], {"r1": RunConfig(mode="labels")})
    )
    assert [look.signed for look in looks.values()] == ["● Base", "■ Labels"]
    assert looks["l"].colour == of_kind("labels").colour


def test_models_of_a_kind_are_called_by_what_tells_them_apart():
    runs = {f"r{i}": RunConfig(mode="labels", seed=i, epochs=2 + 2 * (i == 2)) for i in range(3)}
    models = [evaluation("labels", f"l{i}", f"r{i}") for i in range(3)]
    titles = [look.title for look in appearances(compared(models, runs)).values()]
    assert titles == ["Labels, 2 epochs, seed 0", "Labels, 2 epochs, seed 1", "Labels, 4 epochs, seed 2"]


def test_base_models_are_called_by_their_names():
    models = [evaluation("base", "a"), evaluation("base", "b", base="ViT-B-32:openai")]
    assert [look.title for look in appearances(compared(models)).values()] == [
        "Base, built in",
        "Base, ViT-B-32:openai",
    ]


def test_models_that_nothing_tells_apart_are_called_by_their_ids():
    runs = {name: RunConfig(mode="labels", weight_decay=decay) for name, decay in (("r1", 0.1), ("r2", 0.2))}
    models = [evaluation("labels", "x", "r1"), evaluation("labels", "y", "r2")]
    titles = [look.title for look in appearances(compared(models, runs)).values()]
    assert titles == ["Labels, r1", "Labels, r2"]


def test_more_models_than_shades_still_differ_in_title():
    runs = {f"r{i}": RunConfig(mode="captions", seed=i) for i in range(12)}
    looks = appearances(compared([evaluation("captions", f"c{i}", f"r{i}") for i in range(12)], runs))
    assert len({look.title for look in looks.values()}) == 12


def test_seeds_of_one_setting_are_one_group():
    runs = {f"r{i}": RunConfig(mode="labels", seed=i) for i in range(3)} | {"q": RunConfig(mode="labels", epochs=9)}
    models = [evaluation("base", "b"), *(evaluation("labels", name, name) for name in runs)]
    (group,) = seed_groups(compared(models, runs))
    assert [model.run for model in group] == ["r0", "r1", "r2"]
