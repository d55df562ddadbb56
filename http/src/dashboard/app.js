// The page: what comes in goes to its place.
import * as chart from "./chart.js";
import { watch } from "./events.js";
import { amount, count, mean, near, rate, short, span, time } from "./format.js";
import { ask } from "./key.js";
import * as send from "./send.js";
import { keys, nodes, put, recent, stages } from "./tables.js";

const FORMATS = { count, mean, near, rate, time };
const PLACES = {
  none: "None",
  starting: "Starting",
  limit: "Held by order",
  balance: "Balance",
  rpc: "RPC",
  journal: "Journal",
  intake: "Intake",
  keys: "Keys",
  chain: "Chain",
  backlog: "Backlog",
};
const CONNECTION = { live: "live", lost: "not connected", key: "needs a key" };

const byId = (id) => document.getElementById(id);
const bound = [...document.querySelectorAll("[data-bind]")].map((element) => ({
  element,
  path: element.dataset.bind.split("."),
  format: FORMATS[element.dataset.as ?? "count"],
}));

function show(snapshot) {
  for (const { element, path, format } of bound) {
    put(element, format(path.reduce((value, name) => value?.[name], snapshot)));
  }
  head(snapshot);
  verdict(snapshot);
  funds(snapshot);
  chart.add(snapshot.point);
  stages(snapshot);
  keys(snapshot);
  nodes(snapshot);
  recent(snapshot);
  send.at(snapshot.place, snapshot.mock);
  document.body.dataset.at = snapshot.at;
}

function head({ place, uptimeSeconds, mock }) {
  byId("chain").hidden = !place.chainId;
  put(byId("chain"), place.chainId);
  put(byId("pays"), place.account ? `${place.account} pays ${place.token}` : "");
  put(byId("uptime"), `up ${span(uptimeSeconds)}`);
  byId("mock").hidden = !mock;
  put(byId("mock"), mock ?? "");
}

function verdict({ bottleneck, conditions }) {
  byId("verdict").dataset.where = bottleneck.where;
  // Read aloud when it changes; the sentence beside it, which changes every second, is not.
  put(byId("verdict-where"), PLACES[bottleneck.where] ?? bottleneck.where);
  put(byId("verdict-reason"), bottleneck.reason);
  put(byId("verdict-advice"), bottleneck.advice);
  const list = byId("conditions");
  list.hidden = conditions.length === 0;
  while (list.children.length > conditions.length) list.lastElementChild.remove();
  conditions.forEach((condition, index) => {
    let item = list.children[index];
    if (!item) {
      item = document.createElement("li");
      item.append(document.createElement("b"), " ", document.createElement("span"));
      list.append(item);
    }
    put(item.firstElementChild, condition.name);
    put(item.lastElementChild, condition.detail);
  });
}

function funds({ holdings, place }) {
  put(byId("tokens"), short(holdings.tokens, place.decimals));
  byId("tokens").title = amount(holdings.tokens, place.decimals);
  put(byId("left"), `${place.symbol ?? "Tokens"} left`);
  const left = holdings.runwaySeconds;
  put(byId("runway"), holdings.tokens === null ? "not read yet" : left === null ? "none spent lately" : `for ${span(left)}`);
}

send.start();
watch({
  event(name, data) {
    if (name === "history") chart.restart(data);
    else if (name === "snapshot") show(data);
  },
  state(state, why) {
    const element = byId("state");
    element.dataset.state = state;
    put(element, CONNECTION[state]);
    element.title = why;
  },
  key: () => ask(byId("state").title),
});
