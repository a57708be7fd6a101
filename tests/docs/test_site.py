"""The site: builds strictly without a network, and loads nothing from outside."""

import os
import re
import subprocess
import sys

import pytest
from document_paths import ROOT

from hf_fusion import DashFusionProcessor, DyFuLMConfig, DyFuLMForSequenceClassification

# What a browser fetches by itself, unlike a link that a reader follows.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|prev|next))[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//|@import\s+["']https?:"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    # a proxy that does not exist: whatever asked for a network would fail
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | proxies | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_pages_fetch_nothing_from_outside(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 20
    assert [path.name for path in files if FETCHED.search(path.read_text(encoding="utf-8"))] == []


def test_the_reference_shows_classes_with_their_examples_and_links(site):
    page = (site / "api" / "models.html").read_text(encoding="utf-8")
    for cls in (DyFuLMConfig, DyFuLMForSequenceClassification, DashFusionProcessor):
        assert f'id="{cls.__module__}.{cls.__name__}"' in page
    # [`DyFuLMModel`] of a docstring is a link, not brackets
    assert "[<code>" not in page and '<a class="autorefs autorefs-internal" ' in page


def test_types_are_plain_and_fields_have_their_help(site):
    models = (site / "api" / "models.html").read_text(encoding="utf-8")
    assert "*optional*" not in models and "<code>int</code>" in models
    training = (site / "api" / "training.html").read_text(encoding="utf-8")
    assert 'id="hf_fusion.training.arguments.FusionTrainingArguments.fusion_learning_rate"' in training


def test_records_and_pictures_are_part_of_the_site(site):
    sources = {"data": ROOT / "model_cards" / "results", "images": ROOT / "docs" / "images"}
    for name in ("data/ablation_dyfulm_sst.json", "data/ablation_dyfulm_sst.png", "images/dyfulm.svg"):
        folder, _, file = name.partition("/")
        assert (site / name).read_bytes() == (sources[folder] / file).read_bytes(), name
    newest = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n## [")[2].partition("]")[0]
    assert newest in (site / "changelog.html").read_text(encoding="utf-8")
