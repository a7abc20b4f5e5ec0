"""The check of a data set before and after a training: what is wrong with its files, classes, copies and labels."""
