// Transfers a second over the last five minutes.
import { rate } from "./format.js";

/** How far it looks back: the shortest that shows all there is. */
const SPANS = [
  [60_000, "1 min ago", "30 s"],
  [120_000, "2 min ago", "1 min"],
  [300_000, "5 min ago", "2.5 min"],
];
const LONGEST = SPANS.at(-1)[0];
/** Points further apart are not joined: nobody was watching. */
const GAP = 5_000;
const SERIES = ["accepted", "executed", "final"];
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 4, 8, 20];

let points = [];

/** Begins anew with these points. */
export function restart(history) {
  points = history;
}

/** Adds a point and draws. */
export function add(point) {
  if (points.at(-1)?.at === point.at) points.pop();
  points.push(point);
  points = points.filter(({ at }) => at > point.at - LONGEST);
  draw(document.getElementById("chart"), point.at);
}

function draw(box, now) {
  const { width, height } = box.getBoundingClientRect();
  if (width < 50) return;
  const top = ceiling(Math.max(1, ...points.flatMap((point) => SERIES.map((name) => point[name]))));
  const [span, begin, middle] = SPANS.find(([span]) => now - points[0].at <= span) ?? SPANS.at(-1);
  const x = (at) => LEFT + (1 - (now - at) / span) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / top) * (height - TOP - BOTTOM);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const last = points.at(-1);
  svg.setAttribute("aria-label", `Now ${SERIES.map((name) => `${rate(last[name])} ${name}`).join(", ")}, at most ${rate(top)}`);
  for (const part of [0, 0.5, 1]) {
    const at = y(part * top);
    svg.append(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    svg.append(text(rate(part * top), { x: LEFT - 6, y: at + 4, "text-anchor": "end" }));
  }
  for (const [label, ago, anchor] of [[begin, span, "start"], [middle, span / 2, "middle"], ["now", 0, "end"]]) {
    svg.append(text(label, { x: x(now - ago), y: height - 4, "text-anchor": anchor }));
  }
  for (const name of SERIES) {
    let path = "";
    points.forEach((point, index) => {
      const joined = index > 0 && point.at - points[index - 1].at < GAP;
      path += `${joined ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point[name]).toFixed(1)}`;
    });
    svg.append(element("path", { class: name, d: path }));
  }
  box.replaceChildren(svg);
}

/** The next round number. */
function ceiling(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((factor) => factor * size).find((round) => round >= value);
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function text(content, attributes) {
  const made = element("text", attributes);
  made.textContent = content;
  return made;
}
