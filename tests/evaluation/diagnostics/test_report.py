import json
from html.parser import HTMLParser

import matplotlib.pyplot as plt

from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.diagnostics.report import write_report
from hf_fusion.evaluation.plots import save_figure


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.words, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_one_page_that_needs_nothing_else(tmp_path):
    picture = tmp_path / "a.png"
    save_figure(plt.figure(), picture)
    evil = "<script>alert(1)</script>"
    section = Section(
        "Part & parcel", evil,
        [at_most("high", 0.95, 0.9, "good", "too high"), at_least("low", 0.5, 0.1, "fine so far", "bad")],
        [picture], {"Worst": [{"text": evil, "value": 0.123456}], "None": []}, {"more": {"x": float("nan")}},
    )  # fmt: skip
    page, record = write_report(tmp_path, "Analysis of <x>", {"rows": 3, "versions": {"a": "1"}}, [section])
    reader = Reader()
    reader.feed(page.read_text())
    assert "script" not in reader.tags and all(source.startswith("data:image/png;base64,") for source in reader.sources)
    text = " ".join(reader.words)
    assert evil in text and "Part & parcel" in text and "look here" in text and "0.1235" in text
    assert "Part & parcel: high. too high" in text, "at the top: what needs a look"
    written = json.loads(record.read_text())
    (part,) = written["sections"]
    assert [f["verdict"] for f in part["findings"]] == ["look here", "fine"] and part["more"] == {"x": None}
    assert part["pictures"] == ["a.png"] and written["rows"] == 3


def test_nothing_to_worry_about(tmp_path):
    page, _ = write_report(tmp_path, "x", {}, [Section("a", "b", [at_most("c", 1, 2, "d", "e")])])
    assert "Nothing that needs a look was found." in page.read_text()
