// The stream of snapshots: read with fetch, since an EventSource cannot send a key. Comes back by itself.
import { BARE, headers } from "./key.js";

const PAUSE_MIN = 1_000;
const PAUSE_MAX = 10_000;
/** Snapshots come every second. Without any for so long the connection is dead, whatever it says. */
const SILENCE = 10_000;

/**
 * Watches for ever.
 * @param {{event: (name: string, data: any) => void, state: (state: "live"|"lost"|"key", why: string) => void, key: () => Promise<void>}} to
 *   `event` gets what comes, `state` how the connection is; `key` is called when a key is needed, and resolves when there is one.
 */
export async function watch(to) {
  let pause = PAUSE_MIN;
  for (;;) {
    const abort = new AbortController();
    let silence = setTimeout(() => abort.abort(), SILENCE);
    let why = "the service ended it";
    try {
      const answer = await fetch("/dashboard/events", { ...BARE, headers: headers(), signal: abort.signal });
      if (answer.status === 401 || answer.status === 403) {
        clearTimeout(silence);
        to.state("key", await reason(answer));
        await to.key();
        continue;
      }
      if (!answer.ok) throw new Error(await reason(answer));
      for await (const [name, data] of parsed(answer.body)) {
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE);
        pause = PAUSE_MIN;
        to.state("live", "");
        to.event(name, data);
      }
    } catch (error) {
      why = abort.signal.aborted ? "nothing came for ten seconds" : error.message;
    }
    clearTimeout(silence);
    abort.abort();
    to.state("lost", why);
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, PAUSE_MAX);
  }
}

/** What a refusal says of itself. */
export async function reason(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error || `HTTP ${answer.status}`;
  } catch {
    return `HTTP ${answer.status}`;
  }
}

/** The events of a stream: pairs of name and data. */
async function* parsed(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}
