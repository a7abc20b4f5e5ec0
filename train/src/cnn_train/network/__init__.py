"""Networks: our presets, torchvision's models, and the way from pictures to logits."""
