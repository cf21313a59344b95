// Enter sends; what was asked is shown while the model answers; what is new is scrolled to.
document.addEventListener("keydown", (event) => {
  if (event.target.id !== "question" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  event.target.form.requestSubmit();
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.id !== "say") return;
  const told = event.detail.requestConfig.parameters;
  const busy = document.getElementById("busy");
  busy.querySelector(".asked").textContent = told.suggested || told.question;
  requestAnimationFrame(() => busy.scrollIntoView({ block: "nearest" }));
});

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "talk") event.target.lastElementChild.scrollIntoView({ block: "nearest" });
});
