/** Waiting for something: one value after another, or a change. */

/** A queue between one who puts and one who takes with `for await`. */
export class Channel<T> implements AsyncIterableIterator<T, undefined> {
  readonly #values: T[] = [];
  readonly #takers: ((result: IteratorResult<T, undefined>) => void)[] = [];
  readonly #failedTakers: ((error: Error) => void)[] = [];
  #ended = false;
  #error: Error | undefined;

  /** Hands a value over; after the end it is dropped. */
  put(value: T): void {
    if (this.#ended) return;
    const taker = this.#takers.shift();
    this.#failedTakers.shift();
    if (taker) taker({ done: false, value });
    else this.#values.push(value);
  }

  /** What was put is still taken; then comes the end, or the error. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    const takers = this.#takers.splice(0);
    const failed = this.#failedTakers.splice(0);
    takers.forEach((taker, at) => {
      if (error) failed[at]?.(error);
      else taker({ done: true, value: undefined });
    });
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#values.length > 0) return Promise.resolve({ done: false, value: this.#values.shift() as T });
    if (this.#ended) {
      return this.#error ? Promise.reject(this.#error) : Promise.resolve({ done: true, value: undefined });
    }
    return new Promise((resolve, reject) => {
      this.#takers.push(resolve);
      this.#failedTakers.push(reject);
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Wakes everybody who waits for the next change. */
export class Signal {
  #wake: () => void = () => undefined;
  #next: Promise<void>;

  constructor() {
    this.#next = this.#renewed();
  }

  /** Resolves at the next `notify`. */
  wait(): Promise<void> {
    return this.#next;
  }

  notify(): void {
    const wake = this.#wake;
    this.#next = this.#renewed();
    wake();
  }

  #renewed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Waits; `false` where the signal was aborted first. */
export function delay(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve(false);
      return;
    }
    const onAbort = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve(true);
    }, ms);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
