// The console works without this file. Keys: an element with data-key is activated when its key is pressed anywhere but
// in a field; "?" is not needed, since every key is written next to what it does.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
  for (const element of document.querySelectorAll("[data-key]")) {
    if (element.dataset.key === event.key && !element.disabled) {
      event.preventDefault();
      element.focus();
      element.click();
      return;
    }
  }
});
// A form with data-now is sent as soon as one of its choices changes.
document.addEventListener("change", (event) => {
  if (event.target.matches?.("select, input[type=checkbox]")) event.target.closest("form[data-now]")?.requestSubmit();
});
// A chart with data-hover ("x|text;x|text", in the units of its viewBox) shows the text that is nearest to the pointer.
document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest?.("svg[data-hover]");
  for (const shown of document.querySelectorAll("svg[data-hover] .hovered")) if (shown.parentNode !== chart) shown.remove();
  if (!chart) return;
  const box = chart.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
  const points = chart.dataset.hover.split(";").map((each) => each.split("|"));
  const nearest = points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
  let text = chart.querySelector(".hovered");
  if (!text) {
    text = document.createElementNS("http://www.w3.org/2000/svg", "text");
    text.setAttribute("class", "hovered value");
    text.setAttribute("y", "12");
    chart.append(text);
  }
  text.setAttribute("x", nearest[0]);
  text.setAttribute("text-anchor", nearest[0] > chart.viewBox.baseVal.width / 2 ? "end" : "start");
  text.textContent = nearest[1];
});
// "j" and "k" go to the next and the previous row of a list; Enter then opens its link, as it does without this.
document.addEventListener("keydown", (event) => {
  if ((event.key !== "j" && event.key !== "k") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
  const links = [...document.querySelectorAll("[data-row]")].map((row) => row.querySelector("a")).filter(Boolean);
  const at = links.findIndex((link) => link.closest("[data-row]").contains(document.activeElement));
  const next = event.key === "j" ? at + 1 : Math.max(0, at - 1);
  if (links[next]) {
    event.preventDefault();
    links[next].focus();
  }
});
// The button with data-live follows an event stream, whose events are rows. Without this file it stays hidden.
let live = null;
const follow = (button) => {
  live?.close();
  live = null;
  const begins = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(begins));
  if (!begins) return;
  live = new EventSource(button.dataset.live);
  live.addEventListener("call", (event) => {
    const rows = document.querySelector("table.calls tbody");
    const made = document.createElement("template");
    made.innerHTML = event.data;
    const row = made.content.querySelector("tr");
    if (!rows || !row || [...rows.children].some((each) => each.dataset.id === row.dataset.id)) return;
    row.classList.add("new");
    rows.prepend(row);
    while (rows.children.length > 200) rows.lastElementChild.remove();
  });
};
const show = () => document.querySelectorAll("button[data-live]").forEach((button) => (button.hidden = false));
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-live]");
  if (button) follow(button);
});
document.addEventListener("DOMContentLoaded", show);
document.addEventListener("htmx:afterSwap", show);
// A button with data-copy copies the text of the element with that id. Without this file it stays hidden.
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});
document.addEventListener("DOMContentLoaded", () => {
  if (navigator.clipboard) document.querySelectorAll("button[data-copy]").forEach((button) => (button.hidden = false));
});
