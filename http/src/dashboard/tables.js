// The tables: rows are made anew every second, but only where a cell has changed anything is touched.
import { amount, clock, count, ends, time } from "./format.js";

const STAGES = {
  durable: "On disk",
  signed: "Signed",
  sent: "Sent",
  executed: "Executed",
  final: "Final",
  total: "All, from accepted",
};
const BREAKERS = { closed: "good", "half-open": "warn", open: "bad" };
const KEYS = { free: "good", full: "warn", resting: "bad", quarantined: "warn", retired: "" };
const SETTLED = ["finalized", "failed"];
const STATUSES = { finalized: "good", failed: "bad", submitted: "", processing: "", queued: "" };

export function stages(snapshot) {
  fill("stages", snapshot.stages, (stage) => [
    cell(STAGES[stage.name] ?? stage.name),
    ...["p50", "p95", "p99"].map((share) => cell(time(stage[share]), "n")),
  ]);
}

export function keys(snapshot) {
  fill("keys", snapshot.keys, (key) => [
    cell(key.key.replace("ed25519:", ""), "mono"),
    { ...cell(key.state), tone: KEYS[key.state] ?? "warn" },
    { ...cell(`${key.inFlight} of ${snapshot.window}`, "lane"), part: Math.min(1, key.inFlight / snapshot.window) },
    cell(count(key.open), "n"),
    cell(count(key.ring), "n"),
    cell(String(key.nonce), "n mono"),
    cell(count(key.nonceLag), "n extra"),
  ]);
  const sum = (name) => snapshot.queues.reduce((all, queue) => all + queue[name], 0);
  const parts = [
    [sum("ready"), "ready for a batch"],
    [sum("apart"), "to go by themselves"],
    [sum("later"), "to be tried again later"],
    [sum("unregistered"), "whose receiver is being looked up"],
  ];
  const named = parts.filter(([transfers], index) => index === 0 || transfers > 0);
  const text = named.map(([transfers, what]) => `${count(transfers)} ${what}`).join(", ");
  put(document.getElementById("queues"), `Waiting in the shards: ${text}.`);
}

export function nodes(snapshot) {
  fill("nodes", snapshot.endpoints, (node) => [
    cell(node.name.replace(/^https?:\/\//, ""), "break"),
    { ...cell(node.syncing ? "syncing" : node.breaker), tone: node.syncing ? "warn" : BREAKERS[node.breaker] },
    cell(node.lag > 0 ? `${count(node.height)} (−${node.lag})` : count(node.height), "n"),
    cell(node.calls > 0 ? `${((node.failures / node.calls) * 100).toFixed(1)} %` : "–", "n"),
  ]);
}

/** Holds still while somebody points at it or has the keyboard in it: a link must not move away. */
export function recent(snapshot) {
  const region = document.getElementById("recent-region");
  const held = region.matches(":hover, :focus-within");
  document.getElementById("held").hidden = !held;
  if (held) return;
  const { decimals, explorer } = snapshot.place;
  fill("recent", snapshot.recent, (transfer) => [
    { ...cell(transfer.status), tone: STATUSES[transfer.status], title: transfer.error ?? "" },
    { ...cell(transfer.receiver, "break"), href: `/transfer/${transfer.id}`, title: transfer.id },
    cell(amount(transfer.amount, decimals), "n break"),
    transfer.txHash
      ? { ...cell(ends(transfer.txHash), "mono nowrap"), href: `${explorer}${transfer.txHash}`, title: transfer.txHash }
      : cell("–"),
    cell(SETTLED.includes(transfer.status) ? time((transfer.updatedAt - transfer.createdAt) / 1e3) : "–", "n extra nowrap"),
    cell(clock(transfer.updatedAt), "extra"),
  ]);
}

/** Sets text if it is another: whoever reads with a screen reader, or selects, is not disturbed. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function cell(text, kind = "") {
  return { text, kind };
}

/** Makes the body of a table: one row an item, the first cell is its header. */
function fill(id, items, cells) {
  const body = document.querySelector(`#${id} tbody`);
  while (body.rows.length > items.length) body.deleteRow(-1);
  items.forEach((item, index) => {
    const row = body.rows[index] ?? body.insertRow();
    cells(item).forEach((wanted, column) => {
      let made = row.cells[column];
      if (!made) {
        made = document.createElement(column === 0 ? "th" : "td");
        if (column === 0) made.scope = "row";
        row.append(made);
      }
      show(made, wanted);
    });
  });
}

function show(made, { text, kind, tone = "", href, title = "", part }) {
  const outer = kind === "lane" ? "" : kind;
  if (made.className !== outer) made.className = outer;
  if ((made.dataset.tone ?? "") !== tone) made.dataset.tone = tone;
  if (made.title !== title) made.title = title;
  if (part !== undefined) return lane(made, text, part);
  if (!href) return put(made, text);
  let link = made.firstElementChild;
  if (link?.tagName !== "A") {
    link = document.createElement("a");
    made.replaceChildren(link);
  }
  put(link, text);
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
  // What is elsewhere opens beside this page, and does not learn where it was opened.
  link.target = href.startsWith("/") ? "" : "_blank";
  link.rel = "noopener noreferrer";
}

function lane(made, text, part) {
  let box = made.firstElementChild;
  if (!box) {
    const name = "http://www.w3.org/2000/svg";
    box = document.createElement("div");
    box.className = "lane";
    const svg = document.createElementNS(name, "svg");
    svg.setAttribute("aria-hidden", "true");
    const bar = document.createElementNS(name, "rect");
    bar.setAttribute("height", "100%");
    svg.append(bar);
    box.append(svg, document.createElement("span"));
    made.replaceChildren(box);
  }
  box.querySelector("rect").setAttribute("width", `${(part * 100).toFixed(1)}%`);
  put(box.lastElementChild, text);
}
