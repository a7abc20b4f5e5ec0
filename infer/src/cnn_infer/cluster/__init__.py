"""One run over pictures on the nodes of a Ray cluster: parts of the listing, their rows, and the report of all."""
