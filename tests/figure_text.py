"""The texts of a figure as a reader sees them."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

_TOLERANCE = 1.0  # pixels


def visible_texts(figure):
    """By text the boxes that are drawn: without ticks outside the axes, and empty or hidden texts."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = set()
    for axes in figure.findobj(lambda artist: hasattr(artist, "xaxis")):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                place, slack = tick.get_loc(), 1e-9 * max(abs(low), abs(high))
                if not axes.axison or not low - slack <= place <= high + slack:
                    hidden |= {tick.label1, tick.label2}
            if not axes.axison:
                hidden.add(axis.label)
    renderer = canvas.get_renderer()
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text not in hidden and text.get_visible() and text.get_text().strip()
    ]


def check_texts(figure):
    """Asserts that no text leaves the canvas or overlaps another one, and that none is in powers of ten."""
    texts = visible_texts(figure)
    assert texts, "a figure without a word"
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in texts:
        assert box.x0 >= -_TOLERANCE and box.y0 >= -_TOLERANCE, f"{text!r} leaves the canvas"
        assert box.x1 <= width + _TOLERANCE and box.y1 <= height + _TOLERANCE, f"{text!r} leaves the canvas"
        assert "mathdefault" not in text, f"{text!r} is a formula"
    for (text, box), (other, its) in combinations(texts, 2):
        across = min(box.x1, its.x1) - max(box.x0, its.x0)
        down = min(box.y1, its.y1) - max(box.y0, its.y0)
        assert across <= _TOLERANCE or down <= _TOLERANCE, f"{text!r} and {other!r} overlap"


def check_legends(figure):
    """Asserts that no legend lies over a panel's data."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    for legend in legends:
        box = legend.get_window_extent(canvas.get_renderer())
        for axes in figure.axes:
            assert not box.overlaps(axes.get_window_extent()), "a legend over data"
