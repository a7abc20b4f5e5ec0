"""The conformance files of a model file: pictures drawn by code, and some of the user's test pictures."""
