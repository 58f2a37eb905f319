"""Sessions with words of their own: hot words in the decoding graph, an expected text that the decoder follows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amira_client import AsyncClient, Final, Retry, ServerError
from pipelines.audio.read import read_audio
from pipelines.batcher import Batcher
from pipelines.config import PipelineConfig
from pipelines.errors import AmiraError
from pipelines.paths import corpora_dir, models_dir
from pipelines.streaming import StreamingConfig, open_streaming
from pipelines.wishes import Wishes
from tests.contract.opening import CTC_BELOW
from tests.fakes.serving import Server, serving
from tests.integration.test_server_streaming import noises, run, session_for
from tests.small_ctc import write_small_stream
from tests.synthetic_ctc import small_graph

pytest.importorskip("kaldi_decoder", reason="needs the extra 'wfst'")
CLIP = corpora_dir() / "starter" / "beckett.wav"
TEXT = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."


def test_sessions_with_and_without_hot_words_share_a_batch(tmp_path: Path) -> None:
    model = str(write_small_stream(tmp_path / "stream"))
    graph = small_graph(tmp_path / "graphs")
    options = {"decoder": {"graph": str(graph.path), "beam": 500.0, "hot_bonus": 40.0}}
    first = PipelineConfig(model=model, variants={**CTC_BELOW, "decoder": "decoder/wfst"}, options=options)
    config = StreamingConfig(vad="none", partials="streaming", finals="first-pass", first=first)
    [clip] = noises(1)
    with open_streaming(config, models_dir()) as recognizer:
        batcher = Batcher(recognizer.detector, recognizer.partials.first_pass)
        hot = recognizer.personal(Wishes(hot_words=("letter tea",)))

        def texts(*recognizers: Any) -> list[str]:
            sessions = [session_for(each, clip) for each in recognizers]
            return [own[-1].text for own in run(sessions, batcher, recognizer.finals.settle)]

        [plain], [biased] = texts(recognizer), texts(hot)
        assert {"letter", "tea"} & set(biased.split())
        assert plain != biased
        assert texts(recognizer, hot, recognizer) == [plain, biased, plain]
        with pytest.raises(AmiraError, match="does not know: qqqq"):
            recognizer.personal(Wishes(hot_words=("qqqq",)))
        with pytest.raises(AmiraError, match="decoder/reading can"):
            recognizer.personal(Wishes(expected_text="a cat"))
        with pytest.raises(AmiraError, match="not both"):
            recognizer.personal(Wishes(("cat",), "a cat"))


CONFIG = """
[limits]
max_ahead_ms = 60_000
[recognizer]
partials = "growing"
finals = "second-pass"
[recognizer.second]
model = "moonshine-ctc"
[recognizer.second.variants]
memory = "pooled"
kernel = "scalar"
acoustic = "ort@fp32"
decoder = "reading"
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not CLIP.is_file() or not (models_dir() / "moonshine-ctc").is_dir():
        pytest.skip("models and starter corpus are not built: make models")
    config = tmp_path_factory.mktemp("reading") / "server.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as it:
        yield it


async def said(server: Server, **start: Any) -> str:
    pcm = read_audio(CLIP).pcm16
    parts = [pcm[at : at + 32_000] for at in range(0, len(pcm), 32_000)]
    events = AsyncClient(server.url, retry=Retry(attempts=0)).events(parts, 16_000, silence_ms=5_000, **start)
    return " ".join([event.text async for event in events if isinstance(event, Final)])


@pytest.mark.models
def test_an_expected_text_is_followed(reader: Server) -> None:
    words = asyncio.run(said(reader, expected_text=TEXT)).lower().split()
    wanted = TEXT.lower().replace(".", "").split()
    assert sum(word in wanted for word in words) >= len(wanted) - 2


@pytest.mark.models
@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({}, "none was given"),
        ({"hot_words": ["Beckett"]}, "cannot prefer words"),
        ({"hot_words": ["Beckett"], "expected_text": TEXT}, "not both"),
        ({"expected_text": "..."}, "word"),
        ({"expected_text": TEXT, "decoder": {"beam": 4.0}}, "takes no options"),
    ],
)
def test_what_a_server_cannot_do_is_said(reader: Server, start: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerError, match=message) as caught:
        asyncio.run(said(reader, **start))
    assert (caught.value.code, caught.value.retryable) == ("unsupported_option", False)
