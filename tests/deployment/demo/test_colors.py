"""Contrast of the colors of the page, by WCAG 2.2 level AA."""

import pytest

from hf_fusion.deployment.demo.colors import GRAPHIC_PAIRS, STEPS, TEXT_PAIRS, THEMES, TINTS, contrast, css_variables
from hf_fusion.deployment.demo.theme import _VARIABLES


def test_contrast_by_the_formula_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # a known gray that just fails
    assert contrast("#ffffff", "#777777") == contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read(theme):
    colors = THEMES[theme]
    low = {pair: contrast(*(colors[name] for name in pair)) for pair in TEXT_PAIRS}
    assert {pair: value for pair, value in low.items() if value < 4.5} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_parts_of_pictures_stand_out(theme):
    colors = THEMES[theme]
    low = {pair: contrast(*(colors[name] for name in pair)) for pair in GRAPHIC_PAIRS}
    assert {pair: value for pair, value in low.items() if value < 3} == {}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("tint", TINTS)
def test_a_stronger_tint_stands_out_more(theme, tint):
    colors = THEMES[theme]
    steps = [contrast(colors[f"{tint}-{step}"], colors["surface"]) for step in STEPS]
    assert steps == sorted(steps) and steps[-1] > 1.5


def test_both_themes_set_every_color():
    assert set(THEMES["light"]) == set(THEMES["dark"])
    css = css_variables()
    assert all(css.count(f"--hf-{name}:") == 2 for name in THEMES["light"])
    assert set(_VARIABLES) <= set(THEMES["light"])
