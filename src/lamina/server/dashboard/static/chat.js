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

// No page came back: the service is gone, or took too long.
const failed = (text) => {
  const said = document.createElement("p");
  said.className = "said problem";
  said.role = "alert";
  said.textContent = text;
  document.getElementById("said").replaceChildren(said);
};
document.addEventListener("htmx:sendError", () => failed("The service cannot be reached; your question is still in the field."));
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status < 500 || event.detail.xhr.getResponseHeader("content-type")?.startsWith("text/html")) return;
  event.detail.shouldSwap = false;
  failed("No answer in time; your question is still in the field.");
});
