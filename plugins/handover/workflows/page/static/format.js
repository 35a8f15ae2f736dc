/**
 * Times, durations, shares and names as words. Pure but for the one choice that is remembered: local time or UTC.
 */

const KEY = "handover-utc";
let utc = remembered();

function remembered() {
  try {
    return localStorage.getItem(KEY) === "yes";
  } catch {
    return false;
  }
}

/** Whether times are shown in UTC. */
export const utcChosen = () => utc;

/** Shows times in UTC from now on, or in the person's own time. */
export function chooseUtc(chosen) {
  utc = chosen;
  try {
    localStorage.setItem(KEY, chosen ? "yes" : "no");
  } catch {
    // then it is forgotten
  }
}

/** The name of the time that is shown. */
export function zone() {
  return utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
}

/** A moment as 14:03:09, with its date where it is asked for or is not today's. */
export function clock(at, date, inUtc) {
  const moment = new Date(at * 1000);
  const timeZone = inUtc ? "UTC" : undefined;
  const day = moment.toLocaleDateString("sv-SE", { timeZone });
  const time = moment.toLocaleTimeString("sv-SE", { timeZone });
  const today = new Date().toLocaleDateString("sv-SE", { timeZone });
  return date || day !== today ? `${day} ${time}` : time;
}

/** A moment in UTC and in the person's own time. */
export function full(at) {
  return `${clock(at, true, true)} UTC, ${clock(at, true, false)} local`;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Seconds in its two greatest units: 1 h 5 min, 4.2 s, 120 ms. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "not known";
  const size = Math.abs(seconds);
  if (size < 1 && size > 0) return `${Math.round(size * 1000)} ms`;
  if (size < 10 && !Number.isInteger(size)) return `${size.toFixed(1)} s`;
  let left = Math.round(size);
  const parts = [];
  for (const [unit, length] of UNITS) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count || (unit === "s" && !parts.length)) parts.push(`${count} ${unit}`);
    if (parts.length && (parts.length === 2 || !count)) break;
  }
  return parts.join(" ");
}

/** How far something is from now: in 4 min, 4 min ago. */
export function distance(at, now) {
  return at > now ? `in ${duration(at - now)}` : `${duration(now - at)} ago`;
}

/** A share as a percentage, "not known" for none. */
export function percent(share) {
  return share === null || share === undefined ? "not known" : `${+(share * 100).toPrecision(3)} %`;
}

const BYTES = ["B", "kB", "MB", "GB", "TB"];

const SHARE = /(^|_)(rate|ratio|share|cpu|memory)$/; // without a unit, between 0 and 1

/** A value with its unit, for people: shares become percent, bytes grow, seconds become milliseconds. */
export function value(number, unit, what = "") {
  if (number === null || number === undefined) return "no data";
  if (!unit && SHARE.test(what)) return percent(number);
  if (unit === "s" || unit === "seconds") return duration(number);
  if (/^(bytes|B)(\/s)?$/.test(unit)) {
    let [size, step] = [number, 0];
    while (Math.abs(size) >= 1000 && step < BYTES.length - 1) [size, step] = [size / 1000, step + 1];
    return `${+size.toPrecision(3)} ${BYTES[step]}${unit.endsWith("/s") ? "/s" : ""}`;
  }
  const told = Math.abs(number) >= 1e6 || (number && Math.abs(number) < 1e-3) ? number.toPrecision(3) : +number.toPrecision(4);
  return unit ? `${told} ${unit}` : `${told}`;
}

/** An identifier as words: phase_1_pre_deployment becomes Phase 1: pre deployment. */
export function words(name) {
  const text = String(name ?? "").replaceAll("_", " ").trim();
  const phased = text.match(/^phase (\d+) (.+)$/);
  const told = phased ? `phase ${phased[1]}: ${phased[2]}` : text;
  return told.charAt(0).toUpperCase() + told.slice(1);
}

/** The name of a measure: p99_seconds becomes Response time p99. */
export function measure(what) {
  const quantile = what.match(/^p(\d+)_seconds$/);
  if (quantile) return `Response time p${quantile[1]}`;
  return what === "cpu" ? "CPU" : words(what.replace(/_seconds$/, ""));
}

/** What a part says of itself, as the end of a sentence. */
export function reported(reason) {
  return !reason || /[.!?]$/.test(reason) ? reason : `${reason}.`;
}

/** The server's reason without what the page says before it already. */
export const why = (reason) => reason.replace(/^[\w' ]+ did not answer: /, "");

/** One or several: "1 step", "3 steps". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
