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
