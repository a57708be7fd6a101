import json
from html.parser import HTMLParser

from matplotlib.figure import Figure

from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.diagnostics.report import write_report


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
    evil = "<script>alert(1)</script>"
    section = Section(
        "Part & parcel", evil,
        [at_most("high", 0.95, 0.9, "good", "too high"), at_least("low", 0.5, 0.1, "fine so far", "bad")],
        {"a": Figure()}, {"Worst": [{"text": evil, "value": 0.123456}], "None": []}, {"more": {"x": float("nan")}},
    )  # fmt: skip
    page, record = write_report(tmp_path, "Analysis of <x>", {"rows": 3, "versions": {"a": "1"}}, [section], "svg")
    reader = Reader()
    reader.feed(page.read_text())
    assert "script" not in reader.tags and "img" in reader.tags
    assert all(source.startswith(("data:image/png;base64,", "#section-")) for source in reader.sources)
    text = " ".join(reader.words)
    assert evil in text and "Part & parcel" in text and "warning" in text and "0.1235" in text
    assert "Part & parcel : high. too high" in text and "1 warning" in text, "at the top: the warnings"
    assert (
        page.read_text().count('id="section-1"') == 1
        and '<a href="#section-1">Part &amp; parcel</a>' in page.read_text()
    )
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page.read_text()
    written = json.loads(record.read_text())
    (part,) = written["sections"]
    assert [f["verdict"] for f in part["findings"]] == ["warning", "ok"] and part["more"] == {"x": None}
    assert part["pictures"] == ["a.svg"] and written["rows"] == 3
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_nothing_to_worry_about(tmp_path):
    page, _ = write_report(tmp_path, "x", {}, [Section("a", "b", [at_most("c", 1, 2, "d", "e")])])
    assert "No warnings." in page.read_text()
