"""Colors of the page in its light and its dark theme, as CSS variables, and the pairs that must be told apart."""

from itertools import product

# Steps of a tint behind text, the strongest last.
STEPS = (1, 2, 3)
# `for` and `against`: the relevance of words; `a` and `b`: the encoders.
TINTS = ("for", "against", "a", "b")

_LIGHT = {
    "ink": "#1b1f24", "muted": "#525a64", "page": "#f5f7fa", "surface": "#ffffff", "line": "#c9d1da",
    "accent": "#0b57d0", "on-accent": "#ffffff", "fill": "#0b57d0", "other": "#78838f", "track": "#e7ebf0",
    "danger": "#a4161a", "danger-surface": "#fdeaea", "unsure": "#6b4a00", "unsure-surface": "#fff3d1",
    "for-1": "#e1edff", "for-2": "#b8d4ff", "for-3": "#8ab8ff",
    "against-1": "#fdebdc", "against-2": "#fccda3", "against-3": "#f6ab62",
    "a-1": "#dcf3ea", "a-2": "#aee2cd", "a-3": "#74cba8",
    "b-1": "#f3e6fa", "b-2": "#e2c4f2", "b-3": "#cd9ce8",
}  # fmt: skip
_DARK = {
    "ink": "#f0f3f6", "muted": "#aeb7c2", "page": "#0f1318", "surface": "#181d24", "line": "#3c4651",
    "accent": "#8ab8ff", "on-accent": "#0b1d38", "fill": "#6ea4f7", "other": "#7c8795", "track": "#2a323c",
    "danger": "#ffb3b0", "danger-surface": "#45191b", "unsure": "#ffdd8a", "unsure-surface": "#3f3109",
    "for-1": "#16304f", "for-2": "#1a467d", "for-3": "#1f5ba6",
    "against-1": "#47290f", "against-2": "#693a10", "against-3": "#8a4b10",
    "a-1": "#12382c", "a-2": "#15513c", "a-3": "#196a4e",
    "b-1": "#382546", "b-2": "#503363", "b-3": "#6a4283",
}  # fmt: skip
THEMES = {"light": _LIGHT, "dark": _DARK}

# Text and what lies behind it: a contrast of 4.5 at least (WCAG 2.2, level AA).
TEXT_PAIRS = (
    ("ink", "page"), ("ink", "surface"), ("muted", "page"), ("muted", "surface"), ("accent", "surface"),
    ("on-accent", "accent"), ("danger", "danger-surface"), ("unsure", "unsure-surface"),
    *(("ink", f"{tint}-{step}") for tint, step in product(TINTS, STEPS)),
)  # fmt: skip
# Parts of pictures and their ground: 3 at least.
GRAPHIC_PAIRS = (("fill", "track"), ("fill", "surface"), ("other", "surface"))


def contrast(first: str, second: str) -> float:
    """Returns the contrast of two colors `#rrggbb` by WCAG 2.2, from 1 to 21."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color):
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def css_variables() -> str:
    """Returns the CSS that sets `--hf-NAME` for each colour; gradio marks the dark theme by the class `dark`."""
    selectors = {"light": ":root", "dark": ".dark"}
    return "\n".join(
        f"{selectors[theme]} {{{' '.join(f'--hf-{name}: {value};' for name, value in colors.items())}}}"
        for theme, colors in THEMES.items()
    )
