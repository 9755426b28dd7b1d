"""The parts that all reports share: the data model, number formats, charts and the HTML page."""
