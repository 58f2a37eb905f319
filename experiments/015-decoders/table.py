"""The table of a run of this plan, from its stored samples: WER and what decoding takes.

usage: table.py RUN [RUN...]    a run's folder, or `latest`
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    """Print the tables of the runs that are named."""
    for run in sys.argv[1:]:
        done = subprocess.run(["amira", "report", run, "--json"], capture_output=True, text=True, check=True)
        report = json.loads(done.stdout)
        corpora = sorted({name for case in report["cases"] for name in case.get("wer") or {}})
        print(f"Run `{report['run']}`\n")
        print("| case |", " | ".join(f"WER {name.removeprefix('shared:dev/')}" for name in corpora), "|", end=" ")
        print("decode, ms a clip | memory, MiB |")
        print("|---|", "---|" * (len(corpora) + 2), sep="")
        for case in report["cases"]:
            if case["status"] != "ok":
                print(f"| {case['id']} | {case['status']}: {case['reason']} |", " |" * (len(corpora) + 1), sep="")
                continue
            wers = [case["wer"][name] for name in corpora]
            cells = [f"{100 * wer['value']:.1f} [{100 * wer['low']:.1f}, {100 * wer['high']:.1f}]" for wer in wers]
            memory = case["peak_rss_mib"]
            print(f"| {case['id']} | {' | '.join(cells)} | {case['stages_ms']['decode']:.2f} | {memory:.0f} |")
        print()


if __name__ == "__main__":
    main()
