/**
 * What every part of the page is built with: templates whose texts are escaped by construction, icons, badges, times.
 */

import { Component, createRef, h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { clock, full, reported, utcChosen, why } from "./format.js";

export const html = htm.bind(h);
export { Component, createRef, render };

const PATHS = {
  good: "M20 6 9 17l-5-5",
  busy: "M12 6v6l4 2M22 12a10 10 0 1 1-20 0 10 10 0 0 1 20 0Z",
  warn: "M12 9v4M12 17h.01M10.3 3.9 1.8 18a2 2 0 0 0 1.7 3h17a2 2 0 0 0 1.7-3L13.7 3.9a2 2 0 0 0-3.4 0Z",
  bad: "M15 9l-6 6M9 9l6 6M22 12a10 10 0 1 1-20 0 10 10 0 0 1 20 0Z",
  unknown: "M9.1 9a3 3 0 0 1 5.8 1c0 2-3 3-3 3M12 17h.01M22 12a10 10 0 1 1-20 0 10 10 0 0 1 20 0Z",
  back: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
};

/** A picture beside a word, never instead of one. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d=${PATHS[name] ?? PATHS.unknown} />
  </svg>`;
}

/** A state: colour, icon and word. ``tone``: good, busy, warn, bad, unknown. */
export function Badge({ tone, children }) {
  return html`<span class=${`badge ${tone}`}><${Icon} name=${tone} />${children}</span>`;
}

/** A moment, in the person's own time or UTC, the whole of both in its title. ``at``: seconds since the epoch. */
export function When({ at, none = "not known", date = false }) {
  if (at === null || at === undefined) return html`<span class="muted">${none}</span>`;
  const iso = new Date(at * 1000).toISOString();
  return html`<time datetime=${iso} title=${full(at)}>${clock(at, date, utcChosen())}</time>`;
}

/** A part of the page under a heading that a screen reader finds. */
export function Section({ title, id, aside, children, className = "" }) {
  return html`<section class=${`panel ${className}`} aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${aside}</header>
    ${children}
  </section>`;
}

/** What does not answer, why, and how old that is which is shown of it. Nothing when it answers. */
export function Away({ part, what }) {
  if (!part || part.answers) return null;
  return html`<p class="away" role="note">
    <${Icon} name="unknown" /><span><strong>${what} does not answer${part.reason ? ": " : "."}</strong>${reported(why(part.reason))}${" "}
    ${part.at ? html`Last word: <${When} at=${part.at} date />. What is shown of it is as old as that.` : "Nothing was heard of it yet."}</span>
  </p>`;
}

/** Pairs of a term and what it is. Pairs that are null are left out. */
export function Facts({ pairs }) {
  const shown = pairs.filter(Boolean);
  return html`<dl class="facts">${shown.map(([term, what]) => html`<div key=${term}><dt>${term}</dt><dd>${what}</dd></div>`)}</dl>`;
}

/**
 * A way out of the page. In Airflow's UI it lives in a frame that may open nothing by itself, so there the surrounding
 * page is asked to. Only addresses of the web become links.
 */
export function Out({ href, children }) {
  if (!/^(https?:\/\/|\/|\.\.?\/)/.test(href)) return html`<span>${children}</span>`;
  return html`<a href=${href} target="_blank" rel="noopener noreferrer" onClick=${leave}>${children}</a>`;
}

function leave(event) {
  if (window.parent === window) return;
  try {
    const link = window.top.document.createElement("a");
    Object.assign(link, { href: event.currentTarget.href, target: "_blank", rel: "noopener noreferrer" });
    event.preventDefault();
    link.click();
  } catch {
    // a frame of somebody else's: then it is the browser's to say whether the link opens
  }
}
