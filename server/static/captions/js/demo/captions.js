/** The live-captions page: a microphone, a stream, and what is said. */
import { ConnectionLostError, Microphone, MicrophoneError, ServerError, Stream, } from "../src/index.js";
import { Transcript } from "./transcript.js";
const WORDS = {
    idle: "Ready when you are",
    starting: "Waiting for the microphone",
    connecting: "Connecting",
    listening: "Listening",
    finishing: "Finishing",
};
const RATE = 16_000;
const at = (id) => document.getElementById(id);
const button = at("start");
const transcript = new Transcript(at("captions"));
let token;
let session;
/** From pressing Start to the last words. */
class Session {
    #stream;
    #microphone;
    #stopping = false;
    async run() {
        try {
            // The microphone first: the server would not wait as long as a user who thinks about the browser's question.
            this.#microphone = await Microphone.open({
                sampleRate: RATE,
                onAudio: (pcm, level) => {
                    showLevel(level);
                    this.#stream?.send(pcm).catch(() => undefined); // the iteration below throws the same error
                },
                onEnded: () => void this.stop("The microphone was disconnected."),
            });
            if (this.#stopping)
                return;
            show("connecting");
            this.#stream = new Stream({
                url: location.origin,
                start: { sample_rate: RATE, token: token ?? null },
                retry: { attempts: 20 }, // some one and a half minutes: a server that starts anew is back by then
                onState: (state, error) => this.#changed(state, error),
            });
            for await (const event of this.#stream) {
                transcript.show(event);
                refresh();
            }
        }
        finally {
            this.#stopping = true;
            this.#stream?.close();
            await this.#microphone?.stop();
            transcript.abandon();
        }
    }
    /** What was said until now still becomes captions. */
    async stop(why) {
        if (this.#stopping)
            return;
        this.#stopping = true;
        if (why)
            complain(why);
        show("finishing");
        await this.#microphone?.stop();
        this.#stream?.finish();
    }
    #changed(state, error) {
        if (state === "ready") {
            at("model").textContent = this.#stream?.ready?.model ?? "";
            complain();
        }
        if (error && state === "connecting")
            complain(`${explained(error)} Trying again; what you say meanwhile is kept for a minute.`);
        if (this.#stopping || state === "closed")
            return;
        show(state === "ready" ? "listening" : "connecting");
    }
}
async function start() {
    complain();
    at("token-form").hidden = true;
    show("starting");
    session = new Session();
    try {
        await session.run();
    }
    catch (error) {
        complain(explained(error));
        if (error instanceof ServerError && error.code === "unauthorized") {
            at("token-form").hidden = false;
            at("token").focus();
        }
        if (!(error instanceof ServerError || error instanceof ConnectionLostError || error instanceof MicrophoneError)) {
            throw error; // a bug: let the console have it
        }
    }
    finally {
        session = undefined;
        show("idle");
        showLevel(0);
        refresh();
    }
}
function explained(error) {
    if (error instanceof ServerError)
        return `The server says: ${error.message.replace(`${error.code}: `, "")}.`;
    if (error instanceof ConnectionLostError)
        return "The server cannot be reached.";
    return error instanceof Error ? error.message : String(error);
}
function show(state) {
    const status = at("status");
    status.dataset.state = state;
    status.textContent = WORDS[state];
    const on = state !== "idle";
    button.setAttribute("aria-pressed", String(on));
    button.disabled = state === "finishing";
    at("start-label").textContent = on ? "Stop" : "Start";
}
function complain(problem = "") {
    at("problem").textContent = problem;
    at("problem").hidden = problem === "";
}
/** Speech is mostly between -50 and -10 dB of full scale. */
function showLevel(level) {
    const loudness = Math.max(0, Math.min(1, (20 * Math.log10(Math.max(level, 1e-6)) + 50) / 40));
    at("level").style.transform = `scale(${1 + 0.12 * loudness}, ${1 + 0.45 * loudness})`;
}
function refresh() {
    at("hint").hidden = !transcript.empty;
    for (const id of ["copy", "save", "clear"])
        at(id).disabled = transcript.text === "";
}
function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${transcript.text}\n`], { type: "text/plain" }));
    link.download = `captions-${new Date().toISOString().slice(0, 16).replace(":", "")}.txt`;
    link.click();
    URL.revokeObjectURL(link.href);
}
button.addEventListener("click", () => void (session ? session.stop() : start()));
at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = at("token").value;
    void start();
});
at("copy").addEventListener("click", () => {
    navigator.clipboard.writeText(transcript.text).catch(() => complain("The browser does not let the page copy."));
});
at("save").addEventListener("click", save);
at("clear").addEventListener("click", () => {
    transcript.clear();
    refresh();
});
