"""Hot numeric loops: one module per operation, every implementation of it side by side."""
