"""A Ray cluster of one node as a process of its own: `python -m tests.fakes.ray_cluster`.

It prints its address and its token in a line, and ends when its stdin does.
"""

from __future__ import annotations

import os
import sys

from harness.executor_ray_cluster import cluster


def main() -> None:
    with cluster(None) as (ray, _):
        print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
