"""What a training leaves behind in its run folder."""
