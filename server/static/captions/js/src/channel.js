/** Waiting for something: one value after another, or a change. */
/** A queue between one who puts and one who takes with `for await`. */
export class Channel {
    #values = [];
    #takers = [];
    #failedTakers = [];
    #ended = false;
    #error;
    /** Hands a value over; after the end it is dropped. */
    put(value) {
        if (this.#ended)
            return;
        const taker = this.#takers.shift();
        this.#failedTakers.shift();
        if (taker)
            taker({ done: false, value });
        else
            this.#values.push(value);
    }
    /** What was put is still taken; then comes the end, or the error. */
    end(error) {
        if (this.#ended)
            return;
        this.#ended = true;
        this.#error = error;
        const takers = this.#takers.splice(0);
        const failed = this.#failedTakers.splice(0);
        takers.forEach((taker, at) => {
            if (error)
                failed[at]?.(error);
            else
                taker({ done: true, value: undefined });
        });
    }
    next() {
        if (this.#values.length > 0)
            return Promise.resolve({ done: false, value: this.#values.shift() });
        if (this.#ended) {
            return this.#error ? Promise.reject(this.#error) : Promise.resolve({ done: true, value: undefined });
        }
        return new Promise((resolve, reject) => {
            this.#takers.push(resolve);
            this.#failedTakers.push(reject);
        });
    }
    [Symbol.asyncIterator]() {
        return this;
    }
}
/** Wakes everybody who waits for the next change. */
export class Signal {
    #wake = () => undefined;
    #next;
    constructor() {
        this.#next = this.#renewed();
    }
    /** Resolves at the next `notify`. */
    wait() {
        return this.#next;
    }
    notify() {
        const wake = this.#wake;
        this.#next = this.#renewed();
        wake();
    }
    #renewed() {
        return new Promise((resolve) => {
            this.#wake = resolve;
        });
    }
}
/** Waits; `false` where the signal was aborted first. */
export function delay(ms, signal) {
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
