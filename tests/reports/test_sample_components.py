"""The page of components has each chart, with something on it."""

from __future__ import annotations

from gateway.reports import sample_components


def test_each_kind_of_chart_is_drawn() -> None:
    made = (
        sample_components.line_with_band,
        sample_components.course,
        sample_components.timeline,
        sample_components.amounts,
        sample_components.pareto,
    )
    charts = [draw() for draw in made]
    assert all(chart is not None and chart.variants[0].shapes for chart in charts)
    assert len({chart.id for chart in charts if chart is not None}) == len(charts)
    section = sample_components.forest()
    assert [row.cells[3].tone for row in section.rows.rows if section.rows] == ["good", "open", "bad", ""]  # type: ignore[union-attr]
