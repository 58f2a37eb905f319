/** The captions on the page: settled segments, and the running one with what may still change. */

import { type Final, type Partial, splitStable } from "../src/index.js";

const UNSURE = 0.6; // words that the decoder believes less than this are marked

/** A list of segments, kept scrolled to its end unless the reader has scrolled up. */
export class Transcript {
  readonly #list: HTMLElement;
  readonly #finals: Final[] = [];
  #running: HTMLLIElement | undefined;

  constructor(list: HTMLElement) {
    this.#list = list;
  }

  /** Whether nothing was said yet. */
  get empty(): boolean {
    return this.#finals.length === 0 && this.#running === undefined;
  }

  /** All that is settled, a segment a line. */
  get text(): string {
    return this.#finals.map(({ text }) => text).join("\n");
  }

  show(event: Partial | Final): void {
    const following = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 80;
    const line = this.#running ?? document.createElement("li");
    if (event.type === "partial") {
      const [stable, unstable] = splitStable(event);
      line.replaceChildren(stable, span("unstable", unstable));
      this.#running = line;
    } else {
      line.replaceChildren(...settled(event));
      this.#running = undefined;
      if (event.text) this.#finals.push(event);
    }
    if (event.text) this.#list.append(line);
    else line.remove();
    if (following) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** What is running will not be settled. */
  abandon(): void {
    this.#running?.remove();
    this.#running = undefined;
  }

  clear(): void {
    this.abandon();
    this.#finals.length = 0;
    this.#list.replaceChildren();
  }
}

/** The final's text, its unsure words marked where the words are those of the text. */
function settled({ text, words }: Final): (string | HTMLSpanElement)[] {
  const parts: (string | HTMLSpanElement)[] = [];
  let at = 0;
  for (const word of words) {
    const found = text.indexOf(word.text, at);
    if (found < 0) return [text];
    parts.push(text.slice(at, found));
    if (word.confidence < UNSURE) {
      const marked = span("unsure", word.text);
      marked.title = `${Math.round(word.confidence * 100)} % sure`;
      parts.push(marked);
    } else {
      parts.push(word.text);
    }
    at = found + word.text.length;
  }
  return [...parts, text.slice(at)];
}

function span(name: string, text: string): HTMLSpanElement {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}
