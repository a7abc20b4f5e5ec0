"""The int8 model: made, judged, chosen."""
