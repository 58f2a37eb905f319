// Load from outside, with k6: real-time streams of a recording, latency counted from when the audio was due.
//
//     k6 run -e URL=ws://localhost:8080 -e WAV=speech.wav -e STREAMS=50 deploy/load/stream.js
//
// WAV: mono PCM16, any rate from 8 to 48 kHz. STREAMS: at once, after a ramp of RAMP (30s), held for HOLD (2m).
// TOKEN: a bearer token, where the server wants one. `amira load` does the same from Python, with word error rates.
// Wants a k6 that has k6/websockets, of 2026; an older one calls that module k6/experimental/websockets.

import exec from "k6/execution";
import { Counter, Rate, Trend } from "k6/metrics";
import { WebSocket } from "k6/websockets";

const URL = __ENV.URL || "ws://localhost:8080";
const STREAMS = Number(__ENV.STREAMS || 10);
const CHUNK_MS = 100;

const firstPartial = new Trend("amira_first_partial_ms", true);
const partial = new Trend("amira_partial_ms", true);
const final = new Trend("amira_final_ms", true);
const sendLag = new Trend("amira_send_lag_ms", true);
const errors = new Counter("amira_errors");
const finished = new Rate("amira_finished");

const wav = readWav(open(__ENV.WAV || "speech.wav", "b"));

export const options = {
  scenarios: {
    streams: {
      executor: "ramping-vus",
      startVUs: 0,
      stages: [
        { duration: __ENV.RAMP || "30s", target: STREAMS },
        { duration: __ENV.HOLD || "2m", target: STREAMS },
      ],
      gracefulRampDown: "60s",
      gracefulStop: "60s",
    },
  },
  thresholds: {
    amira_partial_ms: ["p(99)<300"],
    amira_finished: ["rate>0.999"],
    amira_send_lag_ms: ["p(99)<50"], // beyond it this machine is the slow one, and the latencies say nothing
  },
};

export default function () {
  const socket = new WebSocket(`${URL}/v1/stream`, "amira.asr.v1");
  socket.binaryType = "arraybuffer";
  const chunkBytes = Math.floor((wav.rate * CHUNK_MS) / 1000) * 2;
  let begin = 0; // when the audio begins, in milliseconds of the clock
  let sent = 0;
  let heard = false;
  let done = false;
  let timer;

  // Open loop: each chunk has its time, whatever the server does; a late timer sends all that is due.
  function sendDue() {
    while (sent * chunkBytes < wav.pcm.byteLength) {
      const due = begin + (sent + 1) * CHUNK_MS;
      if (Date.now() < due) return;
      sendLag.add(Date.now() - due);
      socket.send(wav.pcm.slice(sent * chunkBytes, (sent + 1) * chunkBytes));
      sent += 1;
    }
    clearInterval(timer);
    socket.send(JSON.stringify({ type: "finish" }));
  }

  const received = {
    ready() {
      begin = Date.now();
      timer = setInterval(sendDue, CHUNK_MS / 4);
    },
    partial(message) {
      const late = Date.now() - (begin + message.audio_ms);
      partial.add(late);
      if (!heard) firstPartial.add(late);
      heard = true;
    },
    final(message) {
      if (message.text) final.add(Date.now() - (begin + message.end_ms));
      done = message.cause === "finish";
    },
    error(message) {
      errors.add(1, { code: message.code });
    },
    closing() {},
  };

  socket.addEventListener("open", () => {
    const start = { type: "start", sample_rate: wav.rate };
    if (__ENV.TOKEN) start.token = __ENV.TOKEN;
    socket.send(JSON.stringify(start));
  });
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    received[message.type](message);
  });
  socket.addEventListener("error", (event) => {
    errors.add(1, { code: "connection" });
    console.error(`stream ${exec.vu.idInTest}: ${event.error}`);
  });
  socket.addEventListener("close", () => {
    clearInterval(timer);
    finished.add(done);
  });
}

/** The samples of a mono PCM16 WAV file. */
function readWav(bytes) {
  const view = new DataView(bytes);
  const text = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  if (text(0) !== "RIFF" || text(8) !== "WAVE") throw new Error("WAV is not a WAV file");
  let rate = 0;
  for (let at = 12; at + 8 <= bytes.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (text(at) === "fmt ") {
      if (view.getUint16(at + 8, true) !== 1 || view.getUint16(at + 10, true) !== 1 || view.getUint16(at + 22, true) !== 16) {
        throw new Error("WAV is not mono PCM16; convert it: ffmpeg -i IN -ac 1 -c:a pcm_s16le OUT.wav");
      }
      rate = view.getUint32(at + 12, true);
    }
    if (text(at) === "data") return { rate, pcm: bytes.slice(at + 8, at + 8 + size) };
    at += 8 + size + (size % 2);
  }
  throw new Error("WAV has no samples");
}
