"""Pages of finished trainings, made of the parts of :mod:`cnn_infer.page`. Only ``--html`` loads this package."""
