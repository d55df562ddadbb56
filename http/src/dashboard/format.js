// How numbers are shown.

const counts = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const NONE = "–";

/** A whole number, with separators: 1,234,567. */
export function count(value) {
  return value === null || value === undefined ? NONE : counts.format(value);
}

/** So many a second: precise while it is small. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value > 0 && value < 9.95 ? value.toFixed(1) : counts.format(value);
}

/** An average. */
export function mean(value) {
  return value === null || value === undefined ? NONE : value.toFixed(value < 9.95 ? 1 : 0);
}

/** A duration in seconds: 850 µs, 12 ms, 1.24 s, 75 s. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 0.0009995) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.00995) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1e3)} ms`;
  return seconds < 9.995 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(seconds < 99.5 ? 1 : 0)} s`;
}

/** A long duration in seconds, in its two largest units: 3 d 4 h. */
export function span(seconds) {
  const units = [["y", 31_557_600], ["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  if (first === 0 && seconds > 100 * units[0][1]) return "over 100 y";
  let left = seconds;
  const parts = [];
  for (const [name, size] of units.slice(first, first + 2)) {
    const value = Math.floor(left / size);
    left -= value * size;
    if (value > 0) parts.push(`${value} ${name}`);
  }
  return parts.join(" ");
}

/** Token units, a string of digits, with so many decimal places: as many digits as matter. */
export function amount(units, decimals) {
  if (units === null || units === undefined) return NONE;
  if (!decimals) return grouped(units);
  const digits = units.padStart(decimals + 1, "0");
  const whole = digits.slice(0, -decimals);
  const fraction = digits.slice(-decimals).replace(/0+$/, "");
  return fraction ? `${grouped(whole)}.${fraction}` : grouped(whole);
}

/** As `amount`, but short: 1.23 M. */
export function short(units, decimals) {
  if (units === null || units === undefined) return NONE;
  const value = Number(units) / 10 ** (decimals || 0);
  if (value !== 0 && value < 0.001) return value.toExponential(1);
  for (const [name, size] of [["E", 1e18], ["P", 1e15], ["T", 1e12], ["G", 1e9], ["M", 1e6]]) {
    if (value >= size * 0.9995 && value < size * 999.5) return `${(value / size).toPrecision(3)} ${name}`;
  }
  if (value >= 1e21) return value.toExponential(2);
  return value >= 1000 ? counts.format(value) : String(Number(value.toPrecision(4)));
}

/** yoctoNEAR as NEAR. */
export function near(yocto) {
  return short(yocto, 24);
}

/** The time of day, in the viewer's own time zone. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

/** The first and last characters of something long. */
export function ends(text) {
  return text.length > 14 ? `${text.slice(0, 6)}…${text.slice(-4)}` : text;
}

function grouped(digits) {
  return digits.replace(/^0+(?=\d)/, "").replace(/\B(?=(\d{3})+$)/g, ",");
}
