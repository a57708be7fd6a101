import csv
import json
import logging

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_fusion.data.labels import LabelRules
from hf_fusion.data.reviews import ReviewSource, read_reviews
from hf_fusion.utils.errors import DataError

OPEN = {"num_labels": None}


def read(folder, values, own="label", columns=None, rejected="error", extra=None, **rules):
    """Fine classes of reviews whose column `own` holds these values, all in training; and the rules."""
    path = folder / "reviews.jsonl"
    rows = [{"text": f"room {i}", own: value, "split": "train", **(extra or {})} for i, value in enumerate(values)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ReviewSource(str(path), columns or {}, LabelRules(**{**OPEN, **rules}), rejected, split_shares=(1, 0, 0))
    data, found = read_reviews(source)
    return list(data["train"]["labels"]), found


class TestNumbers:
    @pytest.mark.parametrize(
        ("values", "classes", "names"),
        [
            ([1, 0, 0], [1, 0, 0], None),
            (["0.0", 2, "1"], [0, 2, 1], None),
            ([4, 0, 4], [1, 0, 1], ("negative", "positive")),
            ([4, 2, 0], [2, 1, 0], ("negative", "neutral", "positive")),
            (["1", "-1"], [1, 0], ("negative", "positive")),
            ([0, 1, -1], [1, 2, 0], ("negative", "neutral", "positive")),
        ],
    )
    def test_classes_that_nobody_declared(self, tmp_path, values, classes, names):
        found, rules = read(tmp_path, values)
        assert found == classes and rules.names == names and rules.num_labels == len(set(classes))
        assert rules.coarse_names == (names or tuple(f"LABEL_{i}" for i in range(rules.num_labels)))

    @pytest.mark.parametrize(
        ("values", "rules", "words"),
        [
            ([1, 2, 3, 4, 5], {}, """from 1 to 5, not from 0.* stars: set `columns` to {"stars": "label"}"""),
            ([1, 2, 3, 4], {"num_labels": 4}, "from 1 to 4.*`num_labels` to 4"),
            ([0, 1, 3], {}, "holds the classes 0, 1, 3.*`num_labels` to 4.*`class_words` to WORST ... BEST .3 names"),
            ([0, 7], {}, "2 names"),
            ([2, 2], {}, "holds one class alone, 2"),
            ([0.5, 1.0], {}, """fractions such as 0.5.*set `columns` to {"score": "label"} and `scale`"""),
            (list(range(40)), {}, "40 different numbers: if they are scores"),
            ([0, 1, 2], {"num_labels": 2}, "1 x rating outside the scale: row 3: label 2 is none of the classes"),
        ],
    )  # fmt: skip
    def test_no_classes(self, tmp_path, values, rules, words):
        with pytest.raises(DataError, match=words):
            read(tmp_path, values, **rules)

    def test_the_mend_is_accepted(self, tmp_path):
        assert read(tmp_path, [1, 2, 5], columns={"stars": "label"})[0] == [0, 1, 4]
        assert read(tmp_path, [2, 3, 7], names=("low", "mid", "high"))[0] == [0, 1, 2]

    def test_names_of_fewer_values_are_not_shifted(self, tmp_path):
        """A class that does not occur keeps its number."""
        assert read(tmp_path, [0, 2], names=("low", "mid", "high"))[0] == [0, 2]

    def test_of_a_part_of_the_named_classes(self, tmp_path, caplog):
        names = ("negative", "neutral", "positive")
        assert read(tmp_path, [1, 0], names=names)[0] == [1, 0]
        assert "holds 0, 1 of the 3 classes, read as 0 = negative, 1 = neutral. If" in caplog.text
        assert read(tmp_path, [1, -1, 0], names=names)[0] == [2, 0, 1]
        for values in ([1, 3], [-1, 0], [-1, 1], [-1, 0, 1, 3]):
            with pytest.raises(DataError, match="which are neither 0 to 2 nor one for each of the 3 classes negative,"):
                read(tmp_path, values, names=names)
        with pytest.raises(DataError, match="row 4: label 7 is none of the classes 0 to 2"):
            read(tmp_path, [0, 1, 2, 7], names=names)


class TestWords:
    @pytest.mark.parametrize(
        ("values", "classes", "names"),
        [
            (["Pos", "neg", "POS"], [1, 0, 1], ("neg", "Pos")),
            (["good", "bad", "ok"], [2, 0, 1], ("bad", "ok", "good")),
            (
                ["extremely_positive", "positive", "extremely negative"],
                [2, 1, 0],
                ("extremely negative", "positive", "extremely_positive"),
            ),
        ],
    )
    def test_of_sentiment_have_an_order(self, tmp_path, values, classes, names):
        found, rules = read(tmp_path, values)
        assert found == classes and rules.names == rules.coarse_names == names

    @pytest.mark.parametrize("values", [["yes", "no"], [True, False], ["meh", "wow"], ["bad", "poor"]])
    def test_of_unknown_order_are_asked_for(self, tmp_path, values):
        with pytest.raises(DataError, match=r"order from worst to best is not known.*.*set `class_words` to"):
            read(tmp_path, values)
        assert read(tmp_path, values, names=tuple(map(str, values)))[0] == [0, 1]

    def test_are_told_in_their_order(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "hf_fusion.data"):
            read(tmp_path, ["good", "good", "bad", "ok"])
        assert "from column 'label': bad, ok, good (words of sentiment from worst to best)" in caplog.text

    def test_one_alone_is_no_class(self, tmp_path):
        with pytest.raises(DataError, match=r"holds one class alone, 'good' \(2\); at least two are needed"):
            read(tmp_path, ["good", "good"])

    def test_rare_strange_cells_are_unusable_rows(self, tmp_path):
        values = ["good", "bad", "good", "7"]
        with pytest.raises(DataError, match=r"1 unusable row.*\n.*row 4: label '7' is none of the classes bad, good"):
            read(tmp_path, values)
        assert read(tmp_path, values, rejected="drop")[0] == [1, 0, 1]

    def test_that_do_not_fit_what_is_declared(self, tmp_path):
        with pytest.raises(DataError, match=r"2 words \('bad' \(1\), 'good' \(1\)\), but 3 classes"):
            read(tmp_path, ["bad", "good"], num_labels=3)
        with pytest.raises(DataError, match=r"'wow'.*none of the classes low, high"):
            read(tmp_path, ["wow", "meh"], names=("low", "high"))

    def test_other_words_in_the_same_order_are_the_same_classes(self, tmp_path):
        """As in an evaluation, where the names are the model's."""
        assert read(tmp_path, ["good", "bad"], names=("negative", "positive"))[0] == [1, 0]
        assert read(tmp_path, ["POS", "NEG"], names=("negative", "positive"))[0] == [1, 0]

    @pytest.mark.parametrize("names", [("low", "high"), ("positive", "neutral"), ("bad", "superb")])
    def test_names_of_another_meaning_are_not_taken_by_their_places(self, tmp_path, names):
        with pytest.raises(DataError, match=r"none of the classes|unusable"):
            read(tmp_path, ["good", "bad"], names=names)

    def test_names_the_other_way_round_count_by_their_meaning(self, tmp_path):
        assert read(tmp_path, ["good", "bad"], names=("positive", "negative"))[0] == [0, 1]
        assert read(tmp_path, ["good", "bad"], names=("good", "bad"))[0] == [0, 1]
        with pytest.raises(DataError, match=r"none of the classes"):
            read(tmp_path, ["good", "bad", "great"], names=("negative", "neutral", "positive"))

    def test_stars_in_words_are_stars(self, tmp_path):
        with pytest.raises(DataError, match=r"""set `columns` to {"stars": "label"}"""):
            read(tmp_path, ["4 stars", "1 star"])


class TestClassLabel:
    def read(self, monkeypatch, names, ids, rules=OPEN):
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        rows = Dataset.from_dict({"text": [f"t {i}" for i in range(len(ids))], "label": ids}, features)
        tables = DatasetDict({"train": rows, "validation": rows, "test": rows})
        monkeypatch.setattr("hf_fusion.data.hub.load_dataset", lambda name: tables)
        data, found = read_reviews(ReviewSource("acme/hotels", rules=LabelRules(**rules)))
        return list(data["test"]["labels"]), found.names

    def test_names_without_a_known_order_are_asked_for(self, monkeypatch):
        with pytest.raises(
            DataError, match=r"order .* is not known \(the classes zebra, ant\): .*set `class_words` to"
        ):
            self.read(monkeypatch, ["zebra", "ant"], [1, 0])
        assert self.read(monkeypatch, ["zebra", "ant"], [1, 0], {**OPEN, "names": ("ant", "zebra")})[0] == [0, 1]

    @pytest.mark.parametrize("name", ["LABEL_", "class ", "", "grade "])
    def test_numbered_names_are_in_their_order(self, monkeypatch, name):
        names = [f"{name}{i}" for i in (2, 0, 1)]
        if name == "grade ":
            with pytest.raises(DataError, match=r"order .* is not known"):
                self.read(monkeypatch, names, [2, 0])
        else:
            assert self.read(monkeypatch, names, [2, 0])[0] == [1, 2]

    def test_words_of_sentiment_are_put_in_order(self, monkeypatch):
        assert self.read(monkeypatch, ["positive", "negative"], [0, 0, 1]) == ([1, 1, 0], ("negative", "positive"))

    def test_the_names_of_a_model(self, monkeypatch):
        rules = {**OPEN, "names": ("bad", "ok", "good")}
        assert self.read(monkeypatch, ["good", "bad", "ok"], [0, 1, 2], rules)[0] == [2, 0, 1]
        with pytest.raises(DataError, match="zebra, ant is none of the class words bad, ok"):
            self.read(monkeypatch, ["zebra", "ant"], [0, 1], {**OPEN, "names": ("bad", "ok")})

    def test_another_wording_counts_by_its_meaning(self, monkeypatch):
        names = ("negative", "positive")
        assert self.read(monkeypatch, ["good", "bad"], [0, 1], {**OPEN, "names": names})[0] == [1, 0]
        assert self.read(monkeypatch, ["good", "bad"], [0, 1], {**OPEN, "names": names[::-1]})[0] == [0, 1]
        assert self.read(monkeypatch, ["2 stars", "1 star"], [0, 1], {**OPEN, "names": names})[0] == [1, 0]
        with pytest.raises(DataError, match="bad, good is none of the class words low, high"):
            self.read(monkeypatch, ["bad", "good"], [0, 1], {**OPEN, "names": ("low", "high")})

    def test_minus_one_is_no_class(self, monkeypatch):
        with pytest.raises(DataError, match="1 x no label"):
            self.read(monkeypatch, ["bad", "good"], [0, -1, 1])


class TestClassLabelOfFiles:
    def write(self, folder, split, names, ids, own="label"):
        features = Features({"text": Value("string"), own: ClassLabel(names=names)})
        texts = [f"{split} {i}" for i in range(len(ids))]
        Dataset.from_dict({"text": texts, own: ids}, features).to_parquet(folder / f"{split}.parquet")

    def test_names_are_read_from_parquet(self, tmp_path):
        for split in ("train", "validation", "test"):
            self.write(tmp_path, split, ["positive", "negative"], [0, 0, 1])
        data, rules = read_reviews(ReviewSource(str(tmp_path)))
        assert list(data["test"]["labels"]) == [1, 1, 0] and rules.names == ("negative", "positive")
        shares = (1.0, 0.0, 0.0)
        data, rules = read_reviews(ReviewSource(str(tmp_path / "train.parquet"), split_shares=shares))
        assert list(data["train"]["labels"]) == [1, 1, 0] and rules.names == ("negative", "positive")

    def test_splits_with_another_order_are_refused(self, tmp_path):
        self.write(tmp_path, "test", ["pos", "neg"], [0, 1])
        self.write(tmp_path, "train", ["neg", "pos"], [0, 1])
        with pytest.raises(DataError, match=r"train\.parquet: .*'label' are neg, pos in this order, .* pos, neg"):
            read_reviews(ReviewSource(str(tmp_path)))

    @pytest.mark.parametrize("field", ["stars", "score"])
    def test_its_numbers_are_no_ratings(self, tmp_path, field):
        self.write(tmp_path, "train", ["1 star", "2 stars"], [1, 0, 1], "rating")
        path = str(tmp_path / "train.parquet")
        with pytest.raises(DataError, match=rf"""classes 1 star, 2 stars, no {field}\..*{{"label": "rating"}}"""):
            read_reviews(ReviewSource(path, {field: "rating"}))
        data, _ = read_reviews(ReviewSource(path, {"label": "rating"}, split_shares=(1.0, 0.0, 0.0)))
        assert list(data["train"]["labels"]) == [1, 0, 1]


class TestRatings:
    def test_ways_to_write_stars(self, tmp_path):
        values = ["4.0", "4/5", "5 stars", "3,0", "★★☆☆☆", "⭐", "2 out of 5", 4]
        assert read(tmp_path, values, "stars")[0] == [3, 3, 4, 2, 1, 0, 1, 3]

    @pytest.mark.parametrize("value", ["9/10", "9", "4.5", "five", "80%", "1,000", "4-", "☆☆☆☆☆"])
    def test_what_is_none_is_refused_by_name(self, tmp_path, value):
        with pytest.raises(DataError, match="1 unusable row"):
            read(tmp_path, ["4", value], "stars")

    def test_ten_stars(self, tmp_path):
        classes, rules = read(tmp_path, ["9/10", 1, "10 stars"], "stars", scale=(1, 10))
        assert classes == [8, 0, 9] and rules.num_labels == 10 and rules.coarse == (0, 4, 6)
        assert rules.names[8] == "9 stars" and rules.coarse_names == ("negative", "neutral", "positive")
        with pytest.raises(DataError, match=r"""10 stars, but there are 5 classes.*{"score": "stars"}"""):
            read(tmp_path, [1, 9], "stars", scale=(1, 10), num_labels=5)

    def test_label_goes_first_and_the_rating_where_it_is_empty(self, tmp_path):
        assert read(tmp_path, [0, 1], extra={"stars": 5})[1].num_labels == 2
        classes, rules = read(tmp_path, [0, None], extra={"stars": 5})
        assert classes == [0, 4] and rules.num_labels == 5

    def test_label_and_the_rating_are_the_same_classes(self, tmp_path):
        words = r"""holds the 2 classes 0, 1, and 1 .*'stars' .* 5 classes"""
        words += r""".*{"stars": "stars", "label": null}.*{"label": "label"}"""
        with pytest.raises(DataError, match=words):
            read(tmp_path, [0, 1, None], extra={"stars": 5})
        assert read(tmp_path, [0, 1, None], extra={"stars": 5}, num_labels=5)[0] == [0, 1, 4]
        with pytest.raises(DataError, match=r"holds the 2 classes 0, 1, .* the fine classes would .* 3 classes"):
            read(tmp_path, [0, 1, None], "coarse_label", extra={"stars": 5})
        with pytest.raises(DataError, match=r"holds the 3 classes bad, ok, good, and 1 .*'stars' .* 5 classes"):
            read(tmp_path, ["good", "bad", None, "ok"], extra={"stars": 5})


class TestColumns:
    def intensities(self, folder, columns):
        with (folder / "a.csv").open("w", newline="") as file:
            rows = [{"text": "x", "stars": 5, "rating": 4, "score": 1, "split": "train"}]
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return list(read_reviews(ReviewSource(str(folder / "a.csv"), columns))[0]["train"]["intensity_labels"])

    def test_a_mapping_that_names_a_label_names_them_all(self, tmp_path):
        assert self.intensities(tmp_path, {"stars": "rating"}) == [0.75]
        assert self.intensities(tmp_path, {"stars": "rating", "score": "score"}) == [0]
        assert self.intensities(tmp_path, {"text": "text"}) == [0]

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_one_is_switched_off(self, tmp_path, nothing):
        assert self.intensities(tmp_path, {"score": nothing}) == [1]
        with pytest.raises(DataError, match="no labels"):
            self.intensities(tmp_path, {"score": nothing, "stars": nothing})

    def test_a_line_for_each_label(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "hf_fusion.data"):
            self.intensities(tmp_path, {"stars": "rating"})
        lines = "\n".join(caplog.messages)
        assert "fine classes: from column 'rating': one class a star, 1 to 5" in lines
        assert "coarse classes: from the fine classes: negative = very negative, negative; neutral = neutral;" in lines
        assert "intensity: from the fine class" in lines and "taken by their names: text, split" in lines
        assert "not taken for labels, as `columns` does not name them: score, stars" in lines


class TestCoarseColumn:
    def test_its_own_classes(self, tmp_path):
        rows = [{"text": str(i), "label": i, "coarse_label": word, "split": "train"} for i, word in enumerate("gbgb")]
        for row in rows:
            row["coarse_label"] = {"g": "good", "b": "bad"}[row["coarse_label"]]
        path = tmp_path / "coarse.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data, rules = read_reviews(ReviewSource(str(path)))
        assert list(data["train"]["coarse_labels"]) == [1, 0, 1, 0]
        assert (rules.num_labels, rules.coarse_names) == (4, ("bad", "good"))


class TestHeads:
    """Coarse classes and intensities, if it is left to the data whether there are any."""

    AUTO = {"has_coarse": None, "has_intensity": None}

    def read(self, folder, rows, columns=None, **rules):
        path = folder / "reviews.jsonl"
        path.write_text(
            "".join(json.dumps({"text": f"t {i}", "split": "train", **row}) + "\n" for i, row in enumerate(rows))
        )
        source = ReviewSource(
            str(path), columns or {}, LabelRules(**{**OPEN, **self.AUTO, **rules}), split_shares=(1, 0, 0)
        )
        data, found = read_reviews(source)
        return [name for name in data["train"].column_names if name.endswith("labels")], found

    @pytest.mark.parametrize(
        ("rows", "rules", "columns"),
        [
            ([{"label": word} for word in ("bad", "ok", "good")], {}, ["labels"]),
            ([{"label": i} for i in range(5)], {}, ["labels", "coarse_labels"]),
            ([{"label": i} for i in range(5)], {"has_coarse": False}, ["labels"]),
            ([{"label": i} for i in range(2)], {"has_coarse": True}, ["labels", "coarse_labels"]),
            ([{"label": i} for i in range(3)], {"coarse": (0, 1, 2)}, ["labels", "coarse_labels"]),
            ([{"label": i} for i in range(2)], {"has_intensity": True}, ["labels", "intensity_labels"]),
            ([{"stars": i} for i in (1, 2, 3)], {"scale": (1, 3)}, ["labels", "intensity_labels"]),
            ([{"stars": i} for i in (1, 5)], {}, ["labels", "coarse_labels", "intensity_labels"]),
            ([{"stars": i} for i in (1, 5)], {"has_intensity": False}, ["labels", "coarse_labels"]),
            ([{"label": i, "intensity": i} for i in (0, 1)], {}, ["labels", "intensity_labels"]),
            (
                [{"label": i, "coarse_label": word} for i, word in enumerate(["bad", "good", "good"])], {},
                ["labels", "coarse_labels"],
            ),
        ],
    )  # fmt: skip
    def test_what_the_data_tells(self, tmp_path, rows, rules, columns):
        found, settled = self.read(tmp_path, rows, **rules)
        assert found == columns
        assert settled.has_coarse is ("coarse_labels" in columns)
        assert settled.has_intensity is ("intensity_labels" in columns)
        assert (settled.num_coarse_labels > 0) is settled.has_coarse

    def test_is_told(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "hf_fusion.data"):
            self.read(tmp_path, [{"label": 0}, {"label": 1}])
            self.read(tmp_path, [{"label": 0, "intensity": 0.5}, {"label": 1, "intensity": 1}], has_intensity=False)
        lines = "\n".join(caplog.messages)
        assert "coarse classes: none beside the fine ones" in lines
        assert "intensity: none, as there is no score" in lines and "intensity: none, not wanted" in lines

    def test_own_coarse_labels_do_not_follow_from_the_fine_ones(self, tmp_path):
        rows = [{"label": i, "coarse_label": ["bad", "good"][i > 1]} for i in range(4)]
        assert not self.read(tmp_path, rows)[1].coarse_follows
        assert self.read(tmp_path, rows, coarse=(0, 2))[1].coarse_follows, "declared"
        assert self.read(tmp_path, [{"label": i} for i in range(4)])[1].coarse_follows


class TestOrder:
    @pytest.mark.parametrize(
        "words",
        [
            ["negative", "neutral", "positive"], ["bad", "ok", "good"], ["poor", "average", "excellent"],
            ["one star", "two stars", "three stars", "four stars", "five stars"], ["1 star", "2 stars"],
        ],
    )  # fmt: skip
    def test_known_words_are_put_in_order(self, tmp_path, words):
        classes, rules = read(tmp_path, words[::-1])
        assert classes == [*range(len(words))][::-1] and list(rules.names) == words

    def test_ratings_could_be_stars(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "hf_fusion.data"):
            read(tmp_path, ["two stars", "one star"])
        assert """(ratings in their order; for intensities too set `columns` to {"stars": "label"})""" in caplog.text
        assert read(tmp_path, ["Two stars", "five stars"], columns={"stars": "label"})[0] == [1, 4]
        with pytest.raises(DataError, match="holds ratings"):
            read(tmp_path, ["one star", "three stars"])

    def test_the_line_to_write(self, tmp_path):
        with pytest.raises(DataError) as error:
            read(tmp_path, ["gut", "sehr gut", "no"])
        line = (
            """in a recipe `class_words: ["gut", "sehr gut", "no"]`, in a command `--class_words gut 'sehr gut' no`"""
        )
        assert line in str(error.value)
        assert read(tmp_path, ["gut", "sehr gut", "no"], names=("no", "gut", "sehr gut"))[0] == [1, 2, 0]


class TestValues:
    """Of the classes, on the scale of the labels."""

    @pytest.mark.parametrize(
        ("column", "cells", "rules", "values"),
        [
            ("stars", [1, 5], {}, (1, 2, 3, 4, 5)),
            ("stars", [0, 4], {"scale": (0, 4)}, (0, 1, 2, 3, 4)),
            ("stars", [1, 10], {"num_labels": 10}, tuple(range(1, 11))),
            ("score", [1, 5], {}, (1, 2, 3, 4, 5)),
            ("score", [0.0, 0.9], {"scale": (0, 1)}, (0.1, 0.3, 0.5, 0.7, 0.9)),
            ("score", [1, 10], {"scale": (1, 10), "num_labels": 3}, (2.5, 5.5, 8.5)),
            ("label", [0, 1, 2], {}, (0, 1, 2)),
            ("label", [-1, 0, 1], {}, (-1, 0, 1)),
            ("label", [0, 4], {}, (0, 4)),
            ("label", [2, 3, 7], {"names": ("low", "mid", "high")}, (2, 3, 7)),
            ("label", [0, 3], {"num_labels": 5}, (0, 1, 2, 3, 4)),
            ("label", ["good", "bad", "ok"], {}, (1, 2, 3)),
            ("label", ["very negative", "very positive", "neutral", "positive", "negative"], {}, (1, 2, 3, 4, 5)),
            ("label", ["2 stars", "1 star"], {"names": ("1 star", "2 stars")}, (1, 2)),
            ("label", ["6 points", "1 point"], {"names": ("6 points", "1 point")}, None),
            ("coarse_label", [0, 1], {}, None),
            ("intensity", [0.1, 0.5], {"num_labels": 5}, None),
        ],
    )
    def test_come_from_the_column(self, tmp_path, column, cells, rules, values):
        path = tmp_path / "reviews.jsonl"
        rows = [{"text": f"room {i}", column: value} for i, value in enumerate(cells)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        _, found = read_reviews(ReviewSource(str(path), rules=LabelRules(**{**OPEN, **rules}), split_shares=(1, 0, 0)))
        assert found.values == (None if values is None else pytest.approx(values))

    def test_of_named_classes(self, tmp_path):
        for names, values in {
            ("3 stars", "1 star", "2 stars"): (1, 2, 3), ("LABEL_0", "LABEL_1"): (0, 1), ("pos", "neg"): (1, 2),
        }.items():  # fmt: skip
            features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})
            rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
            source = ReviewSource(
                "rows", rules=LabelRules(**OPEN), data=DatasetDict(train=rows), split_shares=(1, 0, 0)
            )
            assert read_reviews(source)[1].values == values
