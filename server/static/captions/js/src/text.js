/** What a partial promises of its text. */
/** A partial's text in two: what later partials of the segment keep, and what they may change. */
export function splitStable(partial) {
    const points = [...partial.text]; // code points: the protocol counts these, a string's length counts UTF-16 units
    return [points.slice(0, partial.stable_chars).join(""), points.slice(partial.stable_chars).join("")];
}
