"""The `allocator` axis: which `malloc` a whole process has, and what it can tell about memory."""
