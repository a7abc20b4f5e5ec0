"""From the name of a data set to decoded splits."""
