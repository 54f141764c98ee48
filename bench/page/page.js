
"use strict";
// Everything can be read without this: it shows what a point says, hides lines, sorts tables and changes the colours.
for (const figure of document.querySelectorAll(".chart")) {
  const readout = figure.querySelector(".readout");
  for (const dot of figure.querySelectorAll("svg [data-name] title")) {
    const mark = dot.parentElement;
    mark.tabIndex = -1;
    const say = () => { readout.textContent = dot.textContent; };
    mark.addEventListener("pointerenter", say);
    mark.addEventListener("focus", say);
  }
  for (const button of figure.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const line of figure.querySelectorAll("g.series")) {
        if (line.dataset.name === button.dataset.name) line.classList.toggle("off", !on);
      }
    });
  }
}
const theme = document.getElementById("theme");
const dark = () => document.documentElement.dataset.theme === "dark" ||
  document.documentElement.dataset.theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches;
const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.hidden = false;
name();
theme.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; name(); });
