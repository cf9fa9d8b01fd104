"""The interactive page of a run: one file for a browser, which needs no network.

plotly.js draws the chart. The Python package ``plotly`` contains it; it is mature and works offline, with hover, zoom
and logarithmic axes. Vega would make a smaller page but needs 33 MB of ``vl-convert`` to embed. The tables and the heat
map are plain HTML tables, which screen readers read and which need no library. DataTables would need jQuery, and
IPython through ``itables``, and ``js/table.js`` does the same in a few lines.

To offer a further axis for the chart, add a line to ``axes.py``.
"""
