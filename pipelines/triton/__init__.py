"""Triton: the real server as a child process, its model repository, and the connections to it."""
