import pytest

from clipdemo import neighbours
from clipdemo.embeddings import model_id
from clipdemo.models import open_model
from clipdemo.neighbours import neighbourhood
from clipdemo.progress import finish
from clipdemo.projection import MapSettings
from clipdemo.records import BUILT_IN_BASE, RunConfig
from clipdemo.sample_map import sample_map
from tests import workspace_factory as factory
from tests.pages.reading import text_of


@pytest.fixture
def sample(workspace):
    return factory.make_sample(workspace)


@pytest.fixture
def indexed(workspace, sample):
    """A sample that the built-in base has looked at."""
    clip = open_model()
    finish(neighbourhood(clip, model_id(None, BUILT_IN_BASE), sample, workspace))
    return sample


@pytest.fixture
def both(workspace, sample, indexed):
    """The sample and a run on labels, both looked through."""
    run = factory.make_real_run(workspace, sample, RunConfig(mode="labels"))
    clip = open_model(BUILT_IN_BASE, run.weights)
    finish(neighbourhood(clip, model_id(run, BUILT_IN_BASE), sample, workspace))
    return sample, run


def steps_on(app):
    """The lines under pictures, which go on to them."""
    return [b for b in app.button if b.key and b.key.startswith("on to ")]


def button(app, label):
    return next(b for b in app.button if b.label == label)


def test_empty_workspace_sends_one_to_the_data(open_page):
    app = open_page("explore")
    assert not app.exception and not app.error
    assert "There is no sample to explore yet" in text_of(app)


def test_models_that_have_not_looked_yet_are_sent_to_look(open_page, sample, launched, workspace):
    run = factory.make_real_run(workspace, sample, RunConfig(mode="labels"))
    app = open_page("explore")
    assert "2 of 2 models have to look at this sample first" in text_of(app)
    button(app, "Let them look").click().run()
    assert [arguments for _, arguments, _ in launched] == [
        ["build", "--sample", sample.id, "--base", "builtin"],
        ["build", "--sample", sample.id, "--run", run.id],
    ]


@pytest.mark.parametrize("damage", ["indexes/*-all/index.faiss", "indexes/*-all/index.json", "indexes/*-texts/*.json"])
def test_a_damaged_index_is_said_and_made_again_by_a_job(open_page, indexed, launched, workspace, damage):
    halve(workspace, damage)
    app = open_page("explore")
    assert not app.exception and not app.error
    assert "are damaged or of another version" in app.warning[0].value
    button(app, "Let them look").click().run()
    assert launched[0][1] == ["build", "--sample", indexed.id, "--base", "builtin"]
    finish(neighbourhood(open_model(), model_id(None, BUILT_IN_BASE), indexed, workspace))  # as that job does
    app = open_page("explore")
    assert not app.warning and "Nearest pictures" in text_of(app)


def test_damaged_embeddings_are_said_and_gone_on_with(open_page, indexed, workspace):
    halve(workspace, "embeddings/*-all/images.npy")
    app = open_page("explore")
    assert not app.exception and not app.error
    assert "are damaged or of another version" in app.warning[0].value
    app.run()  # these few were gathered again in one step, so nobody has to look
    assert not app.warning and "Nearest pictures" in text_of(app)


def halve(workspace, pattern):
    (file,) = workspace.root.glob(pattern)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_picture_stands_beside_its_nearest_texts_with_its_own_rank(open_page, indexed):
    app = open_page("explore")
    assert not app.exception and not app.error
    text = text_of(app)
    assert "1 of 12 pictures" in text  # of the test split
    assert "of 60" in text and "Its own caption is number" in text
    assert "Nearest pictures" in text
    first = app.query_params["picture"]
    button(app, "Next").click().run()
    assert app.query_params["picture"] != first
    button(app, "Previous").click().run()
    assert app.query_params["picture"] == first


def test_the_address_brings_one_back_to_a_picture(open_page, indexed):
    name = indexed.rows("test")["id"].iloc[5]
    app = open_page("explore", picture=name)
    assert "6 of 12 pictures" in text_of(app)


@pytest.mark.parametrize("name", ["nothing", "![x](http://example.invalid)"])
def test_an_unknown_picture_in_the_address_shows_the_first(open_page, indexed, name):
    app = open_page("explore", picture=name)
    assert not app.exception and "1 of 12 pictures" in text_of(app)


def test_words_find_pictures(open_page, indexed):
    app = open_page("explore")
    app.segmented_control[0].set_value("words").run()
    next(t for t in app.text_input if t.label == "Words").set_value("a bright disc").run()
    assert not app.exception and not app.error
    scores = [float(step.label.split()[0]) for step in steps_on(app)]
    assert len(scores) == 8 and scores == sorted(scores, reverse=True)
    assert "all 60 pictures are compared" in text_of(app)


def test_a_class_is_a_sentence_to_begin_with(open_page, indexed):
    app = open_page("explore", section="words")
    button(app, "Eye").click().run()
    assert not app.exception and len(steps_on(app)) == 8
    assert app.query_params["words"] == "A medical image of eye"


def test_a_click_on_a_neighbour_goes_on_from_it_and_back_again(open_page, indexed):
    app = open_page("explore", order="worst base")
    first = app.query_params["picture"]
    step = steps_on(app)[0]
    followed = step.key.split()[-1]
    step.click().run()
    assert not app.exception and app.query_params["picture"] == followed != first
    second = steps_on(app)[0]
    second.click().run()
    button(app, "Back").click().run()
    assert app.query_params["picture"] == followed
    button(app, "Back").click().run()
    assert app.query_params["picture"] == first
    assert not any(b.label == "Back" for b in app.button)


def test_a_picture_outside_of_the_list_is_shown_and_next_leads_into_the_list(open_page, indexed):
    name = indexed.rows("train")["id"].iloc[3]
    app = open_page("explore", picture=name)  # the list is of test pictures
    assert app.query_params["picture"] == name
    assert "Not one of the 12 pictures chosen above" in text_of(app)
    button(app, "Next").click().run()
    assert app.query_params["picture"] == indexed.rows("test")["id"].iloc[0]


def test_another_list_begins_with_its_first_picture(open_page, indexed):
    app = open_page("explore", picture=indexed.rows("test")["id"].iloc[5])
    split = next(c for c in app.segmented_control if c.label == "Split")
    split.set_value("train").run()
    assert app.query_params["picture"] == indexed.rows("train")["id"].iloc[0]


def test_any_model_looks_at_any_sample(open_page, workspace, sample, indexed, launched):
    other = factory.make_sample(workspace, seed=1)
    run = factory.make_real_run(workspace, other, RunConfig(mode="labels"))
    app = open_page("explore", sample=sample.id)
    models = next(m for m in app.multiselect if m.label == "Models")
    assert models.value == ["base"]  # what was trained on this sample comes unasked, others do not
    models.set_value(["base", run.id]).run()
    button(app, "Let them look").click().run()
    assert launched[0][1] == ["build", "--sample", sample.id, "--run", run.id]
    finish(neighbourhood(open_model(BUILT_IN_BASE, run.weights), model_id(run, BUILT_IN_BASE), sample, workspace))
    app = open_page("explore", sample=sample.id, models=["base", run.id])
    assert not app.exception and "Nearest pictures" in text_of(app) and "are not among those of Base" in text_of(app)


@pytest.mark.parametrize("texts", [("captions",), ("labels",)])
@pytest.mark.parametrize("section", ["picture", "words", "map"])
def test_samples_without_labels_or_captions_are_explored_as_well(open_page, workspace, texts, section):
    sample = factory.make_sample(workspace, texts=texts)
    finish(neighbourhood(open_model(), model_id(None, BUILT_IN_BASE), sample, workspace))
    app = open_page("explore", sample=sample.id, section=section, words="a disc")
    assert not app.exception and not app.error
    text = text_of(app)
    if section == "picture":
        assert ("Its own caption is number" in text) == ("captions" in texts)
        assert any(t.label == "A sentence of yours" for t in app.text_input) == ("captions" in texts)
        assert any(m.label == "Only classes" for m in app.multiselect) == ("labels" in texts)
    if section != "map":
        assert len(steps_on(app)) == 8


def test_nothing_leads_back_into_another_sample(open_page, workspace, indexed):
    other = factory.make_sample(workspace, seed=1)
    finish(neighbourhood(open_model(), model_id(None, BUILT_IN_BASE), other, workspace))
    app = open_page("explore", sample=indexed.id)
    steps_on(app)[0].click().run()
    assert any(b.label == "Back" for b in app.button)
    next(s for s in app.selectbox if s.label == "Sample").set_value(other.id).run()
    assert not app.exception and not any(b.label == "Back" for b in app.button)
    assert app.query_params["picture"] == other.rows("test")["id"].iloc[0]


def test_a_run_without_its_weights_is_not_offered(open_page, both):
    _, run = both
    run.weights.unlink()
    app = open_page("explore")
    assert not app.exception and "Nearest pictures" in text_of(app)
    assert next(m for m in app.multiselect if m.label == "Models").options == ["Base"]


def test_of_many_pictures_the_chosen_ones_are_compared_and_the_page_says_so(open_page, indexed, monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 2 * 60)
    app = open_page("explore", order="worst base", split="train")
    assert "1 of 2 pictures" in text_of(app) and "Of 36 pictures an even part was compared" in text_of(app)
    rare = open_page("explore", order="worst base", split="train", **{"class": indexed.classes[3]})
    assert "1 of 2 pictures" in text_of(rare) and "Of 3 pictures" in text_of(rare)


def test_words_lead_to_a_picture(open_page, indexed):
    app = open_page("explore", section="words", words="a bright disc")
    step = steps_on(app)[2]
    step.click().run()
    assert app.query_params["picture"] == step.key.split()[-1]
    assert "section" not in app.query_params and "Its own caption is number" in text_of(app)


@pytest.mark.parametrize("kind", ["moved", "worst", "unlikely"])
@pytest.mark.parametrize("split", ["test", "train", "all"])
def test_every_order_is_there_for_every_split(open_page, both, kind, split):
    sample, run = both
    app = open_page("explore", order=f"{kind} {run.id}", split=split)
    assert not app.exception and not app.error
    n = len(sample.manifest) if split == "all" else len(sample.rows(split))
    assert f"1 of {n} pictures" in text_of(app)
    why = {
        "moved": "of its ten nearest pictures are others",
        "worst": "captions before its own",
        "unlikely": "gives its",
    }
    assert why[kind] in text_of(app)


def test_what_moved_is_told_beside_the_first_model(open_page, both):
    app = open_page("explore")
    text = text_of(app)
    assert text.count("(was ") == 8  # three labels and five captions of the second model
    assert "Base: " in text and "are not among those of Base" in text


def test_a_sentence_of_ones_own_is_held_beside_the_captions(open_page, both):
    app = open_page("explore")
    next(t for t in app.text_input if t.label == "A sentence of yours").set_value("a bright disc").run()
    assert not app.exception and text_of(app).count("Yours would be number") == 2


def test_neighbours_are_looked_for_among_what_is_chosen(open_page, indexed, workspace):
    app = open_page("explore")
    next(c for c in app.segmented_control if c.label == "Only splits").set_value(["validation"]).run()
    found = [step.key.split()[-1] for step in steps_on(app)]
    assert found and set(found) <= set(indexed.rows("validation")["id"])
    answers = next(c for c in app.segmented_control if c.label == "That the model gets")
    answers.set_value("right").run()
    right = [step.key.split()[-1] for step in steps_on(app)]
    answers.set_value("wrong").run()
    wrong = [step.key.split()[-1] for step in steps_on(app)]
    space = finish(neighbourhood(open_model(), model_id(None, BUILT_IN_BASE), indexed, workspace))
    ids, held = indexed.manifest["id"], (indexed.manifest["split"] == "validation").to_numpy()
    assert not app.exception
    for found, right_ones in ((right, space.right), (wrong, ~space.right)):
        assert len(found) == min(8, (held & right_ones).sum()) and set(found) <= set(ids[held & right_ones])


def test_a_broken_picture_of_ones_own_is_one_line(open_page, indexed):
    app = open_page("explore")
    app.segmented_control[0].set_value("own").run()
    app.file_uploader[0].set_value([("x.png", b"not a picture", "image/png")]).run()
    assert not app.exception and len(app.error) == 1


ALL = [[-9, -9], [9, -9], [9, 9], [-9, 9]]  # drawn round every point, which lie within 2 of the middle


def test_the_map_is_drawn_at_once_and_a_brush_opens_its_pictures(open_page, indexed):
    app = open_page("explore", section="map")
    assert not app.exception and not app.error
    assert app.query_params["section"] == "map"
    text = text_of(app)
    assert "of the variance" in text and "Why do the sentences lie apart?" in text
    key = f"map {indexed.id} pca together"
    app.session_state[key] = {"brush": {"area": ALL, "hidden": []}}
    app.run()
    assert not app.exception and [heading.value for heading in app.subheader][-1] == "60 pictures"
    app.session_state[key] = {"brush": {"point": 3}}
    app.run()
    assert not app.exception and [heading.value for heading in app.subheader][-1] == "1 picture"


def test_pictures_of_hidden_classes_are_not_among_those_that_were_drawn_round(open_page, indexed):
    app = open_page("explore", section="map")
    name = indexed.manifest["label"].iloc[0]
    app.session_state[f"map {indexed.id} pca together"] = {"brush": {"area": ALL, "hidden": [name]}}
    app.run()
    left = int((indexed.manifest["label"] != name).sum())
    assert not app.exception and f"{left} pictures" in text_of(app)


@pytest.mark.parametrize("brush", [{"point": 10**6}, {"area": [[0, 0]] * 3}, {"area": "<script>"}, "all", 7])
def test_a_brush_that_no_map_sends_shows_nothing(open_page, indexed, brush):
    app = open_page("explore", section="map")
    app.session_state[f"map {indexed.id} pca together"] = {"brush": brush}
    app.run()
    assert not app.exception and not any("picture" in heading.value for heading in app.subheader)


@pytest.mark.parametrize("view", ["apart", "gap"])
def test_every_view_of_the_map_says_what_it_shows(open_page, indexed, view):
    app = open_page("explore", section="map")
    next(c for c in app.segmented_control if c.label == "Pictures and sentences").set_value(view).run()
    assert not app.exception and not app.error
    assert ("the gap is not in this picture" in text_of(app)) == (view == "apart")


@pytest.mark.parametrize("colours", ["answer", "one"])
def test_points_can_be_coloured_otherwise(open_page, indexed, colours):
    app = open_page("explore", section="map")
    next(c for c in app.segmented_control if c.label == "Colours").set_value(colours).run()
    assert not app.exception and not app.error


def test_umap_is_laid_out_by_a_job_and_shown_when_it_is_there(open_page, indexed, launched, workspace):
    app = open_page("explore", section="map")
    next(c for c in app.segmented_control if c.label == "Map by").set_value("umap").run()
    assert "in a process of its own" in text_of(app)
    button(app, "Lay it out").click().run()
    [(command, arguments, _)] = launched
    assert (command, arguments) == (
        "map", ["--sample", indexed.id, "--base", "builtin", "--method", "umap", "--view", "together"]
    )  # fmt: skip
    finish(sample_map(indexed, workspace, settings=MapSettings(method="umap")))
    app.run()
    assert not app.exception and "UMAP keeps who lies near whom" in text_of(app)


def test_an_unknown_section_in_the_address_starts_from_a_picture(open_page, indexed):
    app = open_page("explore", section="<script>")
    assert not app.exception and "Nearest pictures" in text_of(app)


def test_a_model_that_still_looks_is_followed_when_another_is_done(open_page, sample, workspace):
    settings = {"sample_id": sample.id, "run": None, "base": "builtin"}
    slower = factory.make_job(workspace, "index", settings, {"embeddings": (3, 60)})
    done = factory.make_job(workspace, "index", settings, {}, {"state": "finished", "made": {}})
    with factory.keep_alive(slower):
        app = open_page("explore", job=done.id)
        assert not app.exception and "Encoding is running" in text_of(app)
