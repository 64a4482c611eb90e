"""The loss of a training job as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence


def draw_losses(losses: Sequence[tuple[int, float]], dev_losses: Sequence[tuple[int, float]], title: str) -> bytes:
    """Return a PNG of (step, loss) on the training rows and on dev; equal losses give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for points, name, style in ((losses, "training rows", "-"), (dev_losses, "dev", "o--")):
        if points:
            axes.plot([step for step, _ in points], [loss for _, loss in points], style, label=name)
    axes.set(xlabel="optimizer step", ylabel="loss of the answers' tokens", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return picture.getvalue()
