"""A static page that classifies pictures in a browser, with the models of an exported run."""
