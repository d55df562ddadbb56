// Opens the dashboard in Chromium and does what a person would: `node drive.mjs '{"do":"send", ...}'`. Ends with an error if
// anything is not as it should be.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const orders = JSON.parse(process.argv[2]);
const { base } = orders;
const PATIENCE = 40_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What a number on the page must equal in /metrics. */
const COUNTERS = {
  "totals.accepted": "keyshard_transfers_accepted_total",
  "totals.executed": "keyshard_transfers_executed_total",
  "totals.final": "keyshard_transfers_finalized_total",
  "totals.failed": "keyshard_transfers_failed_total",
  "totals.transactions": "keyshard_batches_total",
  "totals.rejected": "ft_service_queue_rejected_total",
  blockHeight: "keyshard_block_height",
};
const GAUGES = { pending: "ft_service_pending_jobs", waiting: "keyshard_transfers_waiting" };

const browser = await chromium.launch({
  executablePath: orders.chromium,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const wrong = [];
try {
  await { send, numbers, look, verdict, key }[orders.do]();
} finally {
  await browser.close();
}
if (wrong.length > 0) throw new Error(wrong.join("\n"));
console.log("ok");

/** A page that has got its first numbers; whatever goes wrong in it is remembered. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(`error on the page: ${error}`));
  // What the browser says of a status that the page handles is no error of the page.
  page.on("console", (said) => said.type() === "error" && !said.text().includes("status of 401") && wrong.push(said.text()));
  page.on("request", (request) => request.url().startsWith(base) || wrong.push(`it asks elsewhere: ${request.url()}`));
  await page.goto(`${base}/dashboard`);
  return page;
}

async function opened(options) {
  const page = await open(options);
  await page.waitForSelector("body[data-at]");
  return page;
}

/** Sends a transfer from the form, by keyboard alone, and sees it become final. */
async function send() {
  const page = await opened();
  await page.keyboard.press("Tab");
  equal(await page.evaluate(() => document.activeElement.className), "skip", "the first stop of the keyboard");
  await page.focus("#receiver");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("send-error").textContent !== "");
  await page.keyboard.type(orders.receiver);
  await page.keyboard.press("Tab");
  await page.keyboard.type("1500000000000000000000000");
  await page.waitForFunction(() => document.getElementById("amount-hint").textContent.startsWith("1.5 "));
  await page.keyboard.press("Tab");
  await page.keyboard.type("from the dashboard");
  await page.keyboard.press("Enter");
  await page.waitForSelector('#sent li[data-status="finalized"]');
  const id = await page.getAttribute("#sent li", "data-id");
  const job = await (await fetch(`${base}/transfer/${id}`)).json();
  equal(job.job.receiverId, orders.receiver, "the receiver");
  equal(job.job.memo, "from the dashboard", "the memo");
  const row = page.locator("#recent tbody tr", { has: page.locator(`a[href="/transfer/${id}"]`) });
  await row.locator("th", { hasText: "finalized" }).waitFor();
  const link = await row.locator("a.mono, td.mono a").first().getAttribute("href");
  equal(link, `/transfer/tx/${job.job.txHash}`, "the link to its transaction");
  equal((await fetch(base + link)).status, 200, "where the link leads");
}

/** Holds what the page shows against /metrics: between what it said before and after, and at rest exactly that. */
async function numbers() {
  const page = await opened();
  for (let round = 0; round < 4; round += 1) {
    const before = await metrics();
    const now = Date.now();
    await page.waitForFunction((now) => Number(document.body.dataset.at) > now, now);
    const { shown, keys, tokens, unit } = await page.evaluate(() => {
      const number = (text) => Number(text.replaceAll(",", ""));
      const bound = [...document.querySelectorAll("[data-bind]")];
      return {
        shown: Object.fromEntries(bound.map((element) => [element.dataset.bind, number(element.textContent)])),
        keys: [...document.querySelectorAll("#keys tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
        tokens: number(document.getElementById("tokens").title),
        unit: document.getElementById("left").textContent,
      };
    });
    const after = await metrics();
    const within = (value, name, what) => {
      const [low, high] = [before.get(name), after.get(name)];
      if (!(low <= value && value <= high)) wrong.push(`${what} is ${value}, /metrics says ${low} to ${high}`);
    };
    for (const [what, name] of Object.entries(COUNTERS)) within(shown[what], name, what);
    for (const [key, state, inFlight, opened, queued, nonce] of keys) {
      within(Number(nonce), `keyshard_key_nonce{key="ed25519:${key}"}`, `nonce of ${key}`);
      if (!orders.resting) continue;
      equal(after.get(`keyshard_key_state{key="ed25519:${key}",state="${state}"}`), 1, `state of ${key}`);
      equal(inFlight, `${after.get(`keyshard_key_in_flight{key="ed25519:${key}"}`)} of ${after.get("keyshard_key_in_flight_max")}`, key);
      equal(Number(opened), after.get(`keyshard_key_open_transactions{key="ed25519:${key}"}`), `open of ${key}`);
      equal(Number(queued), after.get(`keyshard_ring_requests{key="ed25519:${key}"}`), `queued of ${key}`);
    }
    if (keys.length === 0) wrong.push("no key is shown");
    if (orders.resting) {
      for (const [what, name] of Object.entries(GAUGES)) equal(shown[what], after.get(name), what);
      const balance = after.get("keyshard_token_balance") / 1e24;
      if (Math.abs(tokens / balance - 1) > 1e-9) wrong.push(`${tokens} tokens are shown, /metrics says ${balance}`);
      equal(unit, "EXAMPLE left", "the unit");
    } else if (!(shown["totals.accepted"] > 100)) {
      wrong.push("there is no load");
    }
  }
}

/** Takes pictures in both themes at the widths of a desk and a phone, and looks for what keeps anybody from using the page. */
async function look() {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const page = await opened({ colorScheme, viewport: { width, height: 900 } });
      await page.waitForSelector("#recent tbody tr");
      await page.waitForTimeout(orders.pause);
      await page.screenshot({ path: `${orders.pictures}/dashboard-${colorScheme}-${width}.png`, fullPage: true });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) wrong.push(`${wide} pixels wide on ${width}`);
      // Through the debugger: the page's own policy lets no script in.
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, help, nodes } of violations) {
        wrong.push(`${colorScheme}, ${width}: ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html).join(" ")}`);
      }
      await page.context().close();
    }
  }
}

/** Waits until the page names this bottleneck. */
async function verdict() {
  const page = await opened();
  const said = () =>
    page.evaluate(() => ({
      place: document.getElementById("verdict").dataset.where,
      texts: ["verdict-where", "verdict-reason", "verdict-advice"].map((id) => document.getElementById(id).textContent),
    }));
  const reason = new RegExp(orders.says);
  let last;
  for (const deadline = Date.now() + PATIENCE; Date.now() < deadline; ) {
    last = await said();
    if (last.place === orders.where && reason.test(last.texts[1])) {
      console.log(last.texts.join(" | "));
      if (!last.texts[2]) wrong.push("there is no advice");
      return;
    }
    await page.waitForFunction((at) => document.body.dataset.at !== at, await page.evaluate(() => document.body.dataset.at));
  }
  wrong.push(`not ${orders.where}, ${orders.says}, but ${JSON.stringify(last)}`);
}

/** With API keys the page asks for one, keeps it in the tab alone, and asks again if it is no good. */
async function key() {
  const page = await open();
  await page.waitForSelector("#key-form:not([hidden])");
  equal(await page.evaluate(() => document.activeElement.id), "key", "the keyboard");
  await page.fill("#key", "ks_wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("state").dataset.state === "key" && document.getElementById("key").value === "");
  await page.waitForSelector("#key-form:not([hidden])");
  await page.fill("#key", orders.key);
  await page.keyboard.press("Enter");
  await page.waitForSelector("body[data-at]");
  await page.fill("#receiver", orders.receiver);
  await page.fill("#amount", "1");
  await page.click("#send-button");
  await page.waitForSelector('#sent li[data-status="finalized"]');
  equal(await page.evaluate(() => localStorage.length), 0, "kept for longer than the tab");
  const text = await page.evaluate(() => document.documentElement.outerHTML);
  if (text.includes(orders.key)) wrong.push("the key stands in the page");
}

async function metrics() {
  const page = await (await fetch(`${base}/metrics`)).text();
  const samples = page.split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(samples.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}

function equal(found, wanted, what) {
  if (found !== wanted) wrong.push(`${what}: ${found}, not ${wanted}`);
}
