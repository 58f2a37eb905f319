import json

import pytest

from pipelines.errors import AmiraError
from training.curves import draw, read_log


def test_a_log_becomes_curves_and_a_repeated_step_counts_once(tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    entries = [
        {"step": 20, "elapsed_s": 1, "lr": 0.1, "ctc": 3.0, "norm": 9},
        {"step": 40, "elapsed_s": 2, "lr": 0.1, "ctc": 2.5, "norm": 9},
        {"step": 40, "elapsed_s": 2, "lr": 0.1, "ctc": 2.0, "norm": 9},
        {"step": 40, "elapsed_s": 2, "wer": {"an4": 50.0, "an4 empty": 3}},
    ]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    losses, rates = read_log(log)
    assert losses == {"ctc": ([20, 40], [3.0, 2.0])}
    assert rates == {"an4": ([40], [50.0])}
    draw(log, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("<path") > 20


def test_a_missing_or_broken_log_is_an_error_with_its_path(tmp_path) -> None:
    with pytest.raises(AmiraError, match=r"none\.jsonl"):
        read_log(tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(AmiraError, match=r"broken\.jsonl"):
        read_log(tmp_path / "broken.jsonl")
