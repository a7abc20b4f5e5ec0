"""The training recipe: augmentation, optimizer, learning rate, and when to stop."""
