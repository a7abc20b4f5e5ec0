"""Self-contained HTML pages: charts as inline SVG, pictures as data URIs, no script, and no request when opened.

Only ``--html`` loads this package. The templates need Jinja, the extra ``cnn-infer[report]``. cnn-train builds its
pages from the same parts.
"""
