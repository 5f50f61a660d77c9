"""Script of the page: pictures that open larger, with a slider between input and translation.

Without it all pictures are there, side by side. The page's policy runs this script and no other, by its hash.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

DIALOG = """
<dialog aria-labelledby="enlarged">
<form method="dialog"><h2 id="enlarged"></h2><button aria-label="Close">×</button></form>
<div class="compare" hidden>
<div class="stage"></div>
<label><span>input</span>
<input type="range" min="0" max="100" value="50" aria-label="Share of the picture that shows the input">
<span>translation</span></label>
</div>
<div class="large"></div>
<p class="note">← and → go to other rows, Esc closes.</p>
</dialog>
""".strip()
"""Place in which a row of pictures is enlarged."""

SCRIPT = """
const dialog = document.querySelector("dialog");
const rows = [...document.querySelectorAll(".gallery .row")].filter((row) => row.querySelector("img"));
const compare = dialog.querySelector(".compare"), range = dialog.querySelector("input");
let at = 0;
const slide = () => dialog.style.setProperty("--shown", range.value + "%");
function copy(image) {
  const larger = image.cloneNode();
  larger.removeAttribute("width");
  larger.removeAttribute("height");
  return larger;
}
function show(number) {
  at = (number + rows.length) % rows.length;
  const images = [...rows[at].querySelectorAll("img")];
  dialog.querySelector("h2").textContent = rows[at].querySelector(".key").textContent;
  const [input, translation] = ["input", "translation"].map((name) => images.find((i) => i.dataset.compared === name));
  compare.hidden = !(input && translation);
  if (!compare.hidden) dialog.querySelector(".stage").replaceChildren(copy(translation), copy(input));
  dialog.querySelector(".large").replaceChildren(...images.map((image) => {
    const cell = document.createElement("figure"), head = document.createElement("figcaption");
    head.textContent = image.closest(".cell").querySelector(".head")?.textContent ?? "";
    cell.append(copy(image), head);
    return cell;
  }));
  slide();
}
rows.forEach((row, number) => row.querySelectorAll("img").forEach((image) => {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", "Enlarge " + image.alt);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => { show(number); dialog.showModal(); });
}));
// What is folded up cannot be opened on paper; for browsers whose style sheets cannot open it.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
range.addEventListener("input", slide);
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.target === range) return;
  if (event.key === "ArrowRight") show(at + 1);
  if (event.key === "ArrowLeft") show(at - 1);
});
""".strip()

SOURCE = f"'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode('ascii')}'"
"""Name of the script in a Content-Security-Policy."""
