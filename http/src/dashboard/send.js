// The form: sends one transfer under a fresh idempotency key, and follows it until it has settled.
import { reason } from "./events.js";
import { amount, clock, ends } from "./format.js";
import { BARE, headers } from "./key.js";
import { put } from "./tables.js";

const LOOK_EVERY = 500;
/** Sent ones that stay on the page. */
const SHOWN = 5;
const WORDS = {
  queued: "accepted, waits for a batch",
  processing: "signed and sent",
  submitted: "executed, not final yet",
  finalized: "final: paid",
  failed: "failed, not paid",
};

let place = { explorer: "/transfer/tx/" };

/** What the last snapshot said of token and chain. */
export function at(newPlace, mock) {
  place = newPlace;
  put(document.getElementById("send-button"), place.chainId === "mainnet" && !mock ? "Send real tokens" : "Send test tokens");
}

export function start() {
  const form = document.getElementById("send");
  const { receiver, amount: units } = form.elements;
  units.addEventListener("input", () => hint(units.value));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = refuse(receiver, units);
    document.getElementById("send-error").textContent = problem;
    if (problem) return;
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await send(form);
    } catch (error) {
      document.getElementById("send-error").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
}

/** What is wrong with the fields, if anything; the first that is wrong gets the keyboard. */
function refuse(receiver, units) {
  const wrong = [
    [receiver, receiver.value.trim() === "", "Who receives it?"],
    [units, !/^[0-9]+$/.test(units.value.trim()) || /^0+$/.test(units.value.trim()), "The amount is a whole number above zero."],
  ];
  let first = "";
  for (const [field, isWrong, why] of wrong) {
    field.setAttribute("aria-invalid", String(isWrong));
    if (isWrong && !first) {
      first = why;
      field.focus();
    }
  }
  return first;
}

async function send(form) {
  const { receiver, amount: units, memo } = form.elements;
  const body = { receiverId: receiver.value.trim(), amount: units.value.trim() };
  if (memo.value) body.memo = memo.value;
  // The same key for the same transfer: a lost answer is asked for again, and nothing is paid twice.
  const key = uuid();
  const request = {
    ...BARE,
    method: "POST",
    headers: headers({ "content-type": "application/json", "idempotency-key": key, prefer: "respond-async" }),
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch("/send-ft", request);
  } catch {
    await pause(LOOK_EVERY);
    answer = await fetch("/send-ft", request);
  }
  if (!answer.ok && answer.status !== 500) throw new Error(await reason(answer));
  const told = await answer.json();
  const id = told.jobId ?? told.jobIds?.[0];
  if (!id) throw new Error(told.error ?? "The answer names no transfer.");
  follow(id, body);
}

/** Shows one until it has settled. */
async function follow(id, body) {
  const list = document.getElementById("sent");
  const item = document.createElement("li");
  item.dataset.id = id;
  const [what, status, more] = ["span", "output", "span"].map((name) => document.createElement(name));
  what.textContent = `${clock(Date.now())} ${amount(body.amount, place.decimals)} ${place.symbol ?? ""} to ${body.receiverId}: `;
  item.append(what, status, " ", more);
  list.prepend(item);
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  for (;;) {
    const job = await look(id);
    if (job) {
      if (item.dataset.status !== job.status) {
        item.dataset.status = job.status;
        status.textContent = WORDS[job.status] ?? job.status;
        status.dataset.tone = { finalized: "good", failed: "bad" }[job.status] ?? "";
      }
      tell(more, job);
      if (job.status === "finalized" || job.status === "failed") return;
    }
    await pause(LOOK_EVERY);
  }
}

async function look(id) {
  try {
    const answer = await fetch(`/transfer/${id}`, { ...BARE, headers: headers() });
    return answer.ok ? (await answer.json()).job : null;
  } catch {
    return null;
  }
}

/** The transaction, and what is wrong. */
function tell(more, job) {
  const hash = job.txHash;
  if (hash && more.dataset.hash !== hash) {
    more.dataset.hash = hash;
    const link = document.createElement("a");
    link.href = `${place.explorer}${hash}`;
    link.className = "mono";
    link.textContent = ends(hash);
    link.rel = "noopener noreferrer";
    more.replaceChildren(link);
  }
  more.title = job.lastError ?? "";
  if (job.status === "failed" && job.lastError) more.append(` ${job.lastError}`);
}

function hint(value) {
  const { symbol, decimals } = place;
  const known = decimals && /^[0-9]+$/.test(value.trim());
  document.getElementById("amount-hint").textContent = known ? `${amount(value.trim(), decimals)} ${symbol ?? ""}` : "";
}

/** A random UUID, also where the page did not come over TLS or from this machine. */
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
