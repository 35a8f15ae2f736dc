/**
 * Dark or light, as Airflow's own UI is: it keeps its choice in the same origin's storage, where a change is heard of.
 * Without a choice it is the system's.
 */

const KEY = "theme"; // as next-themes calls it, which Airflow uses
const dark = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage may be forbidden
  }
}

function apply() {
  const chosen = stored();
  const theme = chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light";
  if (document.documentElement.dataset.theme === theme) return;
  document.documentElement.dataset.theme = theme;
  dispatchEvent(new Event("themechange")); // canvases are drawn anew
}

apply();
dark.addEventListener("change", apply);
addEventListener("storage", (event) => (event.key === KEY || event.key === null) && apply());

/** The value of a custom property of the stylesheet, for what is drawn on a canvas. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
