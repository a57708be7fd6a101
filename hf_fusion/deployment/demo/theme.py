"""The look of the page: gradio's theme in the colors of the package, without fonts from elsewhere."""

from pathlib import Path

from hf_fusion.deployment.demo.colors import THEMES, css_variables
from hf_fusion.utils.extras import import_extra

_FONT = ("system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")
# Variables of gradio's theme by the color that they get, in the light and in the dark theme.
_VARIABLES = {
    "page": ("body_background_fill", "background_fill_secondary"),
    "surface": (
        "background_fill_primary", "block_background_fill", "input_background_fill", "input_background_fill_focus",
        "block_label_background_fill", "checkbox_label_background_fill", "checkbox_label_background_fill_hover",
        "checkbox_label_background_fill_selected", "button_secondary_background_fill", "checkbox_background_color",
    ),
    "ink": (
        "body_text_color", "block_label_text_color", "block_title_text_color", "checkbox_label_text_color",
        "checkbox_label_text_color_selected", "button_secondary_text_color", "button_secondary_text_color_hover",
        "accordion_text_color", "table_text_color",
    ),
    "muted": ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color"),
    "other": ("input_border_color", "checkbox_border_color", "button_secondary_border_color"),
    "line": ("block_border_color", "border_color_primary"),
    "track": ("button_secondary_background_fill_hover",),
    "accent": (
        "button_primary_background_fill", "button_primary_background_fill_hover", "button_primary_border_color",
        "checkbox_background_color_selected", "checkbox_border_color_selected", "input_border_color_focus",
        "border_color_accent", "link_text_color", "link_text_color_hover", "link_text_color_active",
        "link_text_color_visited", "slider_color", "loader_color",
    ),
    "on-accent": ("button_primary_text_color", "button_primary_text_color_hover"),
}  # fmt: skip


def make_theme():
    """Returns the theme."""
    gradio = import_extra("gradio", "demo")
    light = {name: THEMES["light"][color] for color, names in _VARIABLES.items() for name in names}
    dark = {f"{name}_dark": THEMES["dark"][color] for color, names in _VARIABLES.items() for name in names}
    theme = gradio.themes.Base(font=_FONT, font_mono=_MONO)
    return theme.set(
        **light, **dark, color_accent="var(--hf-accent)", block_border_width="1px", block_title_text_weight="600",
        block_label_text_weight="600", input_border_width="1px",
    )  # fmt: skip


def page_css() -> str:
    """Returns the style sheet."""
    return css_variables() + "\n" + (Path(__file__).with_name("page.css")).read_text(encoding="utf-8")
