"""Training of our acoustic models: data, augmentation, the PyTorch twin of the encoder, one loop for all of them."""
