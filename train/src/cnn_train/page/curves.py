"""The charts of a training: loss and accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnn_infer.page.charts import Chart, Tick, horizontal, line, vertical

from cnn_train.recipe.fit import Epoch


def loss_chart(epochs: Sequence[Epoch], kept: int) -> Chart:
    """Return the chart of the training and validation loss; epoch ``kept``, from 1, is marked."""
    best = epochs[kept - 1]
    return _chart(
        "loss",
        "Loss",
        f"After epoch {kept}, which is kept, the training loss is {best.train_loss:.4f} and the validation loss "
        f"{best.val_loss:.4f}; calibrated, {best.val_calibrated_loss:.4f}, which decides the epoch that is kept.",
        "cross-entropy in nats",
        [epoch.train_loss for epoch in epochs],
        [epoch.val_loss for epoch in epochs],
        kept,
        lambda value: f"{value:g}",
    )


def accuracy_chart(epochs: Sequence[Epoch], kept: int) -> Chart:
    """Return the chart of the training and validation accuracy; epoch ``kept``, from 1, is marked."""
    best = epochs[kept - 1]
    return _chart(
        "accuracy",
        "Accuracy",
        f"After epoch {kept}, which is kept, the training accuracy is {best.train_accuracy:.2%} and the validation "
        f"accuracy {best.val_accuracy:.2%}.",
        "share that is right",
        [epoch.train_accuracy for epoch in epochs],
        [epoch.val_accuracy for epoch in epochs],
        kept,
        lambda value: f"{100 * value:g}%",
    )


def _chart(
    name: str,
    title: str,
    summary: str,
    y_label: str,
    train: Sequence[float],
    validation: Sequence[float],
    kept: int,
    text: Callable[[float], str],
) -> Chart:
    values = [*train, *validation]
    spread = max(max(values) - min(values), 1e-6)
    x_axis = horizontal(1, max(2, len(train)))
    y_axis = vertical(min(values) - 0.05 * spread, max(values) + 0.05 * spread)
    lines = [
        line(label, [*enumerate(points, 1)], x_axis, y_axis, style)
        for label, points, style in (("training", train, "second"), ("validation", validation, "first"))
    ]
    ticks = {tick.text: tick for tick in x_axis.ticks(lambda value: f"{value:.0f}", 6)}
    return Chart(
        name=name,
        title=title,
        summary=summary,
        x_label="epoch",
        y_label=y_label,
        x_ticks=[*ticks.values()],
        y_ticks=y_axis.ticks(lambda value: text(round(value, 10)), 5),
        lines=lines,
        mark=Tick(x_axis(kept), f"kept: {kept}"),
    )
