// Where a drawing is larger than its box: begin in the middle, be dragged; and show what a box is linked to.
const middle = (box) => {
  const at = box.querySelector(".node[aria-current]")?.getBoundingClientRect();
  const frame = box.getBoundingClientRect();
  box.scrollLeft += at ? at.left + at.width / 2 - frame.left - frame.width / 2 : (box.scrollWidth - box.clientWidth) / 2;
  box.scrollTop += at ? at.top + at.height / 2 - frame.top - frame.height / 2 : (box.scrollHeight - box.clientHeight) / 2;
};
const begin = (root) => root.querySelectorAll?.("#graph .scroll").forEach(middle);
document.addEventListener("DOMContentLoaded", () => begin(document));
document.addEventListener("htmx:afterSettle", () => begin(document));

const show = (node) => {
  const on = node?.closest?.(".node")?.dataset.node;
  document.querySelectorAll(".link").forEach((link) => link.classList.toggle("near", on !== undefined && link.dataset.ends.includes(` ${on} `)));
};
for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, (event) => show(event.target));

let held = null;
document.addEventListener("pointerdown", (event) => {
  const box = event.target.closest?.("#graph .scroll");
  if (box && event.pointerType === "mouse" && event.button === 0 && !event.target.closest(".node")) held = { box, x: event.clientX, y: event.clientY };
});
document.addEventListener("pointermove", (event) => {
  if (!held) return;
  held.box.classList.add("dragged");
  held.box.scrollBy(held.x - event.clientX, held.y - event.clientY);
  [held.x, held.y] = [event.clientX, event.clientY];
});
document.addEventListener("pointerup", () => {
  held?.box.classList.remove("dragged");
  held = null;
});
