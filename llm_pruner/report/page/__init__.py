"""One page of a run to look through in a browser: a file that holds everything, and asks no network for anything.

The chart is drawn by plotly.js, which the Python package ``plotly`` brings along: kept for long, offline, with hover,
zoom and logarithmic axes. Vega would be smaller in the page but needs 33 MB of ``vl-convert`` to be put into it. The
tables and the heat map are plain HTML tables, which a screen reader reads and which need no library: DataTables would
bring jQuery, and IPython by way of ``itables``, for what the few lines of ``js/table.js`` do.

Adding something to choose on the chart's axes is a line in ``axes.py``.
"""
