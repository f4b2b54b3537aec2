"""The pages of a selection by strategies: what they tell, for ordinary and degenerate ones."""

import json
import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from lightly_fs.annotations.tasks import TaskType
from lightly_fs.report import build_report, write_report
from lightly_fs.report.fates import Fate
from lightly_fs.report.figures import draw
from lightly_fs.report.html import render_html
from lightly_fs.report.json_v2 import render_json
from lightly_fs.report.lettering import shown
from lightly_fs.report.pdf import render_pdf
from lightly_fs.report.selection import Categories, ClassAmounts, SelectionFacts, StrategyLine
from lightly_fs.report.strategy_words import budget_words, class_words
from lightly_fs.report.summary import STOPPED, count_of, lead, sums
from lightly_fs.selection.choose import Stop
from tests.unit.report.made import a_run, thumbnail
from tests.unit.report.strategies_made import configured, detections, schema, with_strategies
from tests.unit.report.test_report import text_of

FIRST = "DIVERSITY of EMBEDDINGS"


STRATEGY_PLOTS = re.compile("objectives|budget|classes|numbers|task|pretagging")


def line(k, kind="DIVERSITY", text=FIRST, **given):
    return StrategyLine(text, "EMBEDDINGS", kind, np.linspace(1, 0.1, k), **given)


@pytest.fixture(scope="module")
def active():
    return build_report(with_strategies(a_run(120, 30)))


@pytest.fixture(scope="module")
def figures(active):
    return draw(active)


@pytest.fixture(scope="module")
def text(active, figures):
    return " ".join(text_of(render_pdf(active, figures)).split())


@pytest.fixture(scope="module")
def page(active, figures):
    return render_html(active, figures)


def test_everything_active_has_its_plots(figures):
    assert {
        "objectives", "budget", "classes_0", "classes_1", "numbers", "task_0_objects",
        "task_0_classes", "task_0_scores", "task_1_objects", "task_1_classes",
        "pretagging_histogram_before", "pretagging_histogram_after",
    } <= set(figures)  # fmt: skip


def test_the_same_selection_makes_the_same_bytes(active, figures):
    again = build_report(with_strategies(a_run(120, 30)))
    drawn = draw(again)
    assert {name: each.png for name, each in drawn.items()} == {
        name: each.png for name, each in figures.items()
    }
    assert render_pdf(again, drawn) == render_pdf(active, figures)
    assert render_html(again, drawn) == render_html(active, figures)
    assert render_json(again) == render_json(active)


def test_the_document_tells_how_the_selection_was_made(active, text):
    assert "The 4 strategies together chose 25 % of them" in text
    assert "because the number of samples that was asked for was reached" in text
    assert re.search(r"1 Diversity embeddings 1 0\.\d\d 0\.\d\d ", text)
    assert re.search(r"2 Balance metadata weather snow 30 %, .*?1 0\.\d\d 0\.\d\d ", text)
    assert "3 Weights score uncertainty_margin of detector 1 " in text
    assert "4 Threshold metadata lightly.sharpness > 20 — — 23 " in text
    assert "The next 89 samples would bring it from" in text
    for title, fate, count in (
        ("Removed by thresholds", Fate.THRESHOLDED, 23),
        ("Near duplicates, at a distance of up to 0.05", Fate.NEAR_DUPLICATE, 22),
        ("Not chosen", Fate.NOT_CHOSEN, 45),
        ("Selected", Fate.SELECTED, 30),
    ):
        assert count_of(active, fate) == count
        assert re.search(rf"{re.escape(title)} {count} ", text)


def test_the_document_tells_of_classes_objects_groups_and_invalid_files(active, text):
    assert "Off the target:" in text
    before, after = (
        getattr(active.strategies.tasks["detector"].per_image, name).mean
        for name in ("input", "selected")
    )
    assert f"On average {before:.2f} in the input, {after:.2f} in a selected image" in text
    assert "30 images are at a distance of up to 0.05 from another one" in text
    assert (
        "23 files are invalid and were left out, as if they were not there. The first 20:" in text
    )
    assert ".lightly/predictions/detector/19.json" in text
    assert ".lightly/predictions/detector/20.json" not in text


def test_the_page_has_the_same_sections_and_anchors(active, page):
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert {"strategies", "inputs", "objects", "left-out"} <= anchors
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))
    assert page.count("<script") == 1
    pictures = [*active.strategies.boxes.values(), *active.strategies.crops.values()]
    assert sum(map(len, pictures)) == 6 + 6 + 18
    for each in ("Near duplicates", "Invalid annotation files", "Diversity", "stands for"):
        assert each in page


def test_the_sums_name_what_removed_an_image(active):
    lines = {each.label: each.count for each in sums(active)}
    assert lines["removed by thresholds"] == 23
    assert sum(lines[label] for label in (
        "removed by thresholds", "near duplicates: another image stands for them", "not chosen"
    )) == active.given.counts.removed  # fmt: skip
    assert "Thresholds removed 23 of them" in lead(active)


def test_a_run_without_strategies_has_none_of_it():
    report = build_report(a_run(20, 5))
    figures = draw(report)
    assert not [
        name for name in figures if re.match("objectives|budget|classes|numbers|task", name)
    ]
    text = text_of(render_pdf(report, figures))
    assert "How the selection was made" not in text
    assert "The coreset method chose" in text
    page = render_html(report, figures)
    assert 'id="strategies"' not in page
    written = json.loads(render_json(report))
    assert written["predictionTaskInformation"] == {}
    assert written["datasetAnalysis"]["metadataInformation"]["customCategorical"] == {}


def test_near_duplicates_before_a_method_are_told_without_strategies():
    near = (np.array([3, 4]), np.array([0, 0]), np.array([0.01, 0.02]))
    run = a_run(20, 5)
    picks = np.array([0, 1, 2, 5, 6])
    facts = SelectionFacts([], near_duplicates=near, near_duplicate_distance=0.02)
    run = replace(run, selection=replace(run.selection, indices=picks), strategies=facts)
    report = build_report(run)
    lines = {each.label: each.count for each in sums(report)}
    assert lines["near duplicates: another image stands for them"] == 2
    assert lines["not chosen: a selected image stands for them"] == 13
    assert "2 are near duplicates. The coreset method chose 25 % of them" in lead(report)
    text = " ".join(text_of(render_pdf(report, draw(report))).split())
    assert "Near duplicates, at a distance of up to 0.02 2 10 %" in text
    assert "2 images are at a distance of up to 0.02 from another one" in text
    assert "strateg" not in text


def test_predictions_beside_a_method_add_their_section_alone():
    run = with_strategies(a_run(20, 5))
    facts = replace(run.strategies, lines=[], numeric={}, categorical={}, distributions={},
                    typicality={}, near_duplicates=None, radius=None, crops={},
                    thresholded=np.empty(0, np.int64), invalid_files=())  # fmt: skip
    report = build_report(configured(run, facts))
    page = render_html(report, draw(report))
    assert 'id="objects"' in page
    assert not re.search('id="(strategies|inputs|left-out)"', page)


def test_only_what_is_active_has_a_section():
    run = a_run(20, 5)
    report = build_report(configured(run, SelectionFacts(lines=[line(5)])))
    figures = draw(report)
    assert [name for name in figures if STRATEGY_PLOTS.match(name)] == ["objectives"]
    text = text_of(render_pdf(report, figures))
    assert "How the selection was made" in text
    assert "The strategy chose 25 % of them" in text
    for title in ("What the strategies looked at", "Predictions and crops", "left out before",
                  "What more labels would bring", "Removed by thresholds"):  # fmt: skip
        assert title not in text


@pytest.fixture(scope="module")
def written(active):
    return json.loads(render_json(active))


def test_metadata_is_measured_numeric_or_categorical(active, written):
    metadata = written["datasetAnalysis"]["metadataInformation"]
    assert set(metadata["lightlyNumeric"]) == {"sharpness", "sizeInBytes", "luminance"}
    assert list(metadata["customNumeric"]) == [
        "weather.temperature", "detector CATEGORY_COUNT [person]"
    ]  # fmt: skip
    temperature = metadata["customNumeric"]["weather.temperature"]
    assert sum(temperature["input"]["counts"]) == 96  # every fifth has none
    weather = metadata["customCategorical"]["weather"]
    codes = active.given.strategies.categorical["weather"].codes
    counts = weather["selected"]["counts"]
    assert counts == {
        name: int((codes[active.sets.selected] == place).sum())
        for place, name in enumerate(("sunny", "rain", "snow"))
    }
    assert sum(counts.values()) == 30
    # Mean difference over its largest value, by hand from the counts.
    a, b, c = sorted(weather["input"]["counts"].values())
    gini = weather["input"]["metrics"]["giniImbalance"]
    assert gini == pytest.approx(2 * (c - a) / (2 * (a + b + c)), rel=1e-5)


def test_measured_metadata_is_told_once_even_where_properties_are_off():
    run = with_strategies(a_run(40, 8, properties=()))
    metadata = json.loads(render_json(build_report(run)))
    metadata = metadata["datasetAnalysis"]["metadataInformation"]
    assert list(metadata["lightlyNumeric"]) == ["sharpness"]
    assert "lightly.sharpness" not in metadata["customNumeric"]


def test_tasks_are_told_with_their_ids_and_examples(active, written):
    task = written["predictionTaskInformation"]["detector"]
    assert task["taskType"] == "object-detection"
    assert task["categoryIdToName"]["3"] == "car"
    predictions = active.given.strategies.predictions["detector"]
    counts = task["categoryDistribution"]["input"]["counts"]
    assert counts["person"] == int((predictions.categories == 0).sum())
    assert sum(task["predictionScoreDistribution"]["input"]["counts"]) == len(predictions.scores)
    assert set(task["categoryToCountsPerSample"]) == set(counts)
    assert sum(task["categoryToCountsPerSample"]["car"]["selected"]["counts"]) == 30
    assert set(task["activeLearningScoreDistributions"]) >= {"uncertainty_margin"}
    chosen = {active.given.filenames[row] for row in active.sets.selected}
    examples = task["detectionTaskInformation"]["bboxExamples"]
    assert len(examples) == 6
    for example in examples:
        assert example["filename"] in chosen
        row = active.given.filenames.index(example["filename"])
        assert len(example["predictions"]) == len(predictions.of(row))
        for one in example["predictions"]:
            assert sum(one["probabilities"]) == pytest.approx(1, abs=one["epsilon"])
            place = next(
                i for i in predictions.of(row)
                if predictions.boxes[i] == pytest.approx(one["bbox"], rel=1e-5)
            )  # fmt: skip
            assert one["categoryId"] == 3 * predictions.categories[place]


def test_images_that_cannot_be_read_change_the_pictures_alone(active, figures):
    run = replace(with_strategies(a_run(120, 30)), image=lambda filename, side: None)
    report = build_report(run)
    assert report.strategies.boxes == {"detector": [], "lightly_pretagging": []}
    assert render_json(report) == render_json(active)
    assert "no image" in text_of(render_pdf(report, figures))


def test_every_image_is_read_once_as_thumbnail_and_once_for_boxes_and_crops():
    asked, lock = [], threading.Lock()

    def image(filename, side):
        with lock:
            asked.append((filename, side))
        return thumbnail(filename, side)

    build_report(replace(with_strategies(a_run(60, 20)), image=image))
    assert len(asked) == len(set(asked))


def test_pictures_of_predictions_and_crops_stay_on_one_page(active, figures):
    pages = text_of(render_pdf(active, figures)).split("\f")
    made = active.strategies
    for found, width in ((made.boxes, 42), (made.crops, 22)):
        for pictures in found.values():
            names = {shown(active.given.filenames[each.row], width) for each in pictures}
            assert any(all(name in page for name in names) for page in pages)
    for words in ("Selected images with their predicted objects", "Crops of selected images"):
        (first, *_) = [page for page in pages if words in page]
        after = first[first.index(words) :]
        assert ".jpg" in after, "the words stand alone at the foot of a page"


def test_scores_that_are_all_the_same_are_a_sentence():
    run = with_strategies(a_run(40, 8))
    made = run.strategies.predictions["detector"]
    labels = replace(made, scores=np.ones_like(made.scores))
    scores = {"detector": {"object_frequency": np.arange(40.0), "certainty": np.zeros(40)}}
    facts = replace(run.strategies, predictions={"detector": labels}, scores=scores, crops={},
                    numeric={"same": np.full(40, 3.0)}, typicality={})  # fmt: skip
    report = build_report(configured(run, facts))
    figures = draw(report)
    drawn = re.findall("<!-- (.*?) -->", figures["task_0_scores"].svg.decode())
    assert "object_frequency" in drawn
    assert not {"certainty", "score of each object"} & set(drawn)
    assert "numbers" not in figures
    text = " ".join(text_of(render_pdf(report, figures)).split())
    assert "Every object has a score of 1, as labels have" in text
    assert "Scores that are the same for every image are not drawn." in text
    assert "Numbers that are the same for every image are not drawn." in text
    assert re.search("certainty 40 0.000 0.000 0.000", text)
    same = {"detector": {"certainty": np.zeros(40)}}
    only = build_report(configured(run, replace(facts, scores=same)))
    assert "task_0_scores" not in draw(only)


def test_crops_are_told_as_embeddings_of_their_own(active, written):
    task = written["predictionTaskInformation"]["detector"]["detectionTaskInformation"]
    told = task["cropEmbeddingInformation"]
    owners = active.given.strategies.crops["EMBEDDINGS detector"].embedded.samples
    n_selected = int(np.isin(owners, active.sets.selected).sum())
    near = told["distanceToNearestNeighborInSet"]
    assert sum(near["input"]["counts"]) == len(owners)
    assert sum(near["selected"]["counts"]) == n_selected
    assert sum(told["distanceToCoverInput"]["selected"]["counts"]) == len(owners)
    chosen = {active.given.filenames[row] for row in active.sets.selected}
    for drawn in told["scatterPlotData"].values():
        assert len(drawn["input2dEmbeddings"]) == len(owners)
        assert len(drawn["selectedExcludingDatapool2dEmbeddings"]) == n_selected
        assert {one["filename"] for one in drawn["exampleImages"]} <= chosen
    pretagged = written["predictionTaskInformation"]["lightly_pretagging"]
    assert "cropEmbeddingInformation" not in pretagged["detectionTaskInformation"]


def test_strategies_that_are_not_the_configurations_are_refused():
    run = with_strategies(a_run(40, 8))
    facts = replace(run.strategies, lines=run.strategies.lines[:2])
    with pytest.raises(ValueError, match="2 strategies of a configuration of 4"):
        build_report(replace(run, strategies=facts))


def test_scores_of_a_task_are_not_drawn_again_as_inputs():
    run = with_strategies(a_run(40, 8))
    scores = run.strategies.scores["detector"]["uncertainty_margin"]
    facts = replace(run.strategies, numeric={"my score": scores.copy(), "other": scores + 1})
    report = build_report(replace(run, strategies=facts))
    assert list(report.strategies.numbers) == ["other"]


def test_objects_that_are_an_input_are_drawn_once():
    run = with_strategies(a_run(40, 8))
    predictions = run.strategies.predictions["detector"]
    counts = np.zeros((40, 4))
    np.add.at(counts, (predictions.samples, predictions.categories), 1)
    amounts = {"detector CLASS_DISTRIBUTION": ClassAmounts(("person", "car", "bicycle",
                                                            "traffic light"), counts)}  # fmt: skip
    report = build_report(
        replace(run, strategies=replace(run.strategies, distributions=amounts, crops={}))
    )
    figures = draw(report)
    assert "task_0_classes" not in figures
    assert {"task_1_classes", "task_0_objects"} <= set(figures)
    render_pdf(report, figures)
    render_html(report, figures)


def test_the_first_and_the_last_tenth_of_the_picks_are_averaged():
    run = a_run(60, 25)
    objectives = np.arange(25, 0, -1) / 25
    one = StrategyLine(FIRST, "EMBEDDINGS", "DIVERSITY", objectives)
    made = build_report(configured(run, SelectionFacts([one]))).strategies
    assert made.starts == pytest.approx([objectives[:3].mean()])
    assert made.ends == pytest.approx([objectives[-3:].mean()])


@pytest.mark.parametrize("reason", list(Stop))
def test_every_reason_to_stop_is_said_in_words(reason):
    facts = SelectionFacts([line(3)])
    run = a_run(9, 3)
    run = configured(replace(run, selection=replace(run.selection, stopped_by=reason)), facts)
    assert reason in STOPPED
    assert reason not in lead(build_report(run)).replace("all ", "")


@pytest.mark.parametrize(
    ("curve", "k", "words"),
    [
        ((np.arange(1, 301), 3 / np.arange(1, 301)), 100, "next 100 samples would bring it from "
         "0.030 to 0.015."),
        ((np.array([10, 30]), np.array([0.5, 0.25])), 30, "last 20 samples brought it from 0.500 "
         "to 0.250."),
        ((np.array([1, 2]), np.array([np.inf, 0.25])), 2, "It is 0.250."),
        ((np.array([1]), np.array([np.inf])), 1, "by its size."),
    ],
)  # fmt: skip
def test_the_budget_is_said_for_the_next_or_the_last_samples(curve, k, words):
    run = a_run(320, k)
    made = build_report(configured(run, SelectionFacts([line(k)], radius=curve))).strategies
    assert budget_words(made).endswith(words)


MANY = tuple(f"class {i} $a_b$ <b>漢字</b>{' long' * (i % 9)}" for i in range(200))


def odd(n, k, **changes):
    rng = np.random.default_rng(0)
    values = {
        "lines": [line(k, "WEIGHTS", "WEIGHTS of METADATA " + "very.long.key." * 20)] * 30,
        "categorical": {
            "many $x$": Categories(MANY, rng.integers(0, 200, n)),
            "one": Categories(("only",), np.zeros(n, np.int64)),
            "none 漢": Categories(("a", "b"), np.full(n, -1)),
        },
        "targets": {"many $x$": {MANY[150]: 0.2, "absent": 0.1}},
        "numeric": {f"{'long_' * 30}{i}": rng.normal(size=n) for i in range(20)}
        | {"all nan": np.full(n, np.nan)},
    }
    return with_strategies(a_run(n, k, config={}), **(values | changes))


@pytest.mark.parametrize(
    ("n", "k", "changes"),
    [
        (60, 20, {"predictions": {"x": detections([""] * 60, schema("x", MANY))}, "scores": {},
                  "distributions": {"漢" * 200: ClassAmounts(MANY, np.ones((60, 200)))}}),
        (30, 0, {"numeric": {"nothing": np.full(30, np.nan)}}),
        (1, 1, {}),
        (0, 0, {}),
        (20, 9, {"predictions": {}, "scores": {}, "crops": {}, "sizes": None, "lines": [],
                 "numeric": {}, "invalid_files": [("漢" * 500, "reason " * 100)],
                 "near_duplicates": None}),
    ],
)  # fmt: skip
def test_odd_selections_have_a_report_of_finite_numbers(n, k, changes, tmp_path):
    write_report(build_report(odd(n, k, **changes)), tmp_path)
    written = (tmp_path / "report_v2.json").read_text()
    assert "NaN" not in written
    text = text_of((tmp_path / "report.pdf").read_bytes())
    assert "How the selection was made" in text
    assert "nan" not in re.sub(r"all.nan", "", text).split()
    assert "<b>漢字</b>" not in (tmp_path / "report.html").read_text()


def test_two_hundred_classes_are_the_largest_and_a_number():
    report = build_report(odd(60, 20))
    words = class_words(report.strategies.labels["many $x$"])
    n_present = len(set(report.given.strategies.categorical["many $x$"].codes.tolist()))
    missing = MANY[150] not in np.array(MANY)[report.given.strategies.categorical["many $x$"].codes]
    others = n_present + 1 + missing - 15
    assert words.endswith(f"The last bar sums up {others:,} classes.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numeric": {"a": np.zeros(3)}}, r"numeric\['a'\] has 3 rows for 40"),
        ({"lines": [line(7)]}, "7 objectives for 8 picks"),
        ({"sizes": None}, "need the sizes"),
        ({"sizes": np.ones((3, 2))}, "sizes has 3 rows"),
        ({"categorical": {"a": Categories(("x",), np.ones(40, int))}}, "codes beyond its 1"),
        ({"distributions": {"a": ClassAmounts(("x",), np.ones((40, 2)))}}, "no amount for each"),
        ({"scores": {"other": {}}}, "without predictions: .'other'"),
        ({"scores": {"detector": {"margin": np.zeros(1)}}}, "margin'. has 1 rows"),
        ({"typicality": {"e": np.zeros(1)}}, "typicality"),
    ],
)  # fmt: skip
def test_facts_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build_report(with_strategies(a_run(40, 8), **changes))


def test_a_classification_has_no_boxes():
    names = a_run(40, 8).filenames
    made = detections(names, schema("kinds", kind=TaskType.CLASSIFICATION))
    made = replace(made, boxes=np.full_like(made.boxes, np.nan))
    run = with_strategies(a_run(40, 8), predictions={"kinds": made}, scores={}, crops={})
    report = build_report(run)
    assert report.strategies.boxes == {"kinds": []}
    task = json.loads(render_json(report))["predictionTaskInformation"]["kinds"]
    assert "detectionTaskInformation" not in task
