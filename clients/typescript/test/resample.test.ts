import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Resampler, toPcm16 } from "../src/index.js";

const RATES = [48_000, 44_100, 96_000, 22_050, 16_000, 8_000];

function tone(frequency: number, rate: number, seconds: number): Float32Array {
  return Float32Array.from({ length: Math.round(rate * seconds) }, (_, n) =>
    Math.sin((2 * Math.PI * frequency * n) / rate),
  );
}

function converted(samples: Float32Array, from: number, to: number, cuts = [samples.length]): Float32Array {
  const resampler = new Resampler(from, to);
  const parts: number[] = [];
  let at = 0;
  for (let turn = 0; at < samples.length; turn += 1) {
    const count = cuts[turn % cuts.length] as number;
    parts.push(...resampler.push(samples.subarray(at, at + count)));
    at += count;
  }
  return Float32Array.from([...parts, ...resampler.flush()]);
}

/** Energy of the difference below that of the signal, in dB, away from the ends. */
function noiseDb(got: Float32Array, wanted: Float32Array): number {
  let signal = 0;
  let noise = 0;
  for (let n = 200; n < wanted.length - 200; n += 1) {
    signal += (wanted[n] as number) ** 2;
    noise += ((got[n] as number) - (wanted[n] as number)) ** 2;
  }
  return 10 * Math.log10(noise / signal);
}

describe("conversion to 16 kHz", () => {
  for (const rate of RATES) {
    it(`keeps a tone of ${rate} Hz sound, in time and height`, () => {
      for (const frequency of [100, 1_000, Math.min(6_000, rate * 0.375)]) {
        const got = converted(tone(frequency, rate, 0.5), rate, 16_000);
        assert.ok(Math.abs(got.length - 8_000) <= 1, `${got.length} samples`);
        const db = noiseDb(got, tone(frequency, 16_000, 0.5));
        assert.ok(db < -70, `${frequency} Hz: noise at ${db.toFixed(1)} dB`);
      }
    });

    it(`does not depend on how ${rate} Hz sound is cut`, () => {
      const sound = tone(440, rate, 0.2).map((sample, n) => sample * Math.cos(n * n * 1e-6));
      const whole = converted(sound, rate, 16_000);
      for (const cuts of [[128], [1], [1, 7, 500], [4_096]]) {
        assert.deepEqual(converted(sound, rate, 16_000, cuts), whole);
      }
    });
  }

  it("removes what 16 kHz cannot hold", () => {
    for (const [rate, frequency] of [
      [48_000, 9_000],
      [48_000, 15_000],
      [44_100, 12_000],
      [96_000, 40_000],
    ] as const) {
      const got = converted(tone(frequency, rate, 0.5), rate, 16_000).subarray(200, -200);
      const peak = got.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      assert.ok(peak < 1e-3, `${frequency} Hz of ${rate} Hz comes back at ${(20 * Math.log10(peak)).toFixed(1)} dB`);
    }
  });

  it("keeps a constant", () => {
    for (const rate of RATES) {
      const got = converted(new Float32Array(rate / 2).fill(0.5), rate, 16_000).subarray(100, -100);
      for (const sample of got) assert.ok(Math.abs(sample - 0.5) < 1e-5);
    }
  });

  it("refuses rates that are none", () => {
    for (const rate of [0, -1, 44_100.5, Number.NaN]) assert.throws(() => new Resampler(rate, 16_000), RangeError);
  });
});

describe("PCM16", () => {
  it("rounds and clips", () => {
    const samples = Float32Array.of(0, 0.5, -0.5, 1, -1, 2, -2, 1 / 65_536 + 1e-9);
    assert.deepEqual([...toPcm16(samples)], [0, 16_384, -16_384, 32_767, -32_768, 32_767, -32_768, 1]);
  });
});
