// What pages cannot do by themselves. Everything here is a convenience: every page works without it.
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-switch]")) return;
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

// "/" goes to the page's search, as on many sites; Escape leaves it.
document.addEventListener("keydown", (event) => {
  const search = document.querySelector("input[type=search]");
  const writing = event.target.matches("input, textarea, select");
  if (event.key === "/" && search && !writing) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && event.target === search) {
    search.blur();
  }
});

// A slider says what it stands at.
document.addEventListener("input", (event) => {
  const shown = event.target.dataset.output && document.getElementById(event.target.dataset.output);
  if (shown) shown.value = event.target.list?.options[event.target.value]?.label ?? event.target.value;
});

// No page came back: the service is gone, or took too long. The next try takes the sentence away.
const failed = (text) => {
  const said = document.createElement("p");
  said.id = "failed";
  said.className = "said problem";
  said.role = "alert";
  said.textContent = `${text}; what you typed is still here.`;
  document.getElementById("said").replaceChildren(said);
};
document.addEventListener("htmx:beforeRequest", () => document.getElementById("failed")?.remove());
document.addEventListener("htmx:sendError", () => failed("The service cannot be reached"));
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status < 500 || event.detail.xhr.getResponseHeader("content-type")?.startsWith("text/html")) return;
  event.detail.shouldSwap = false;
  failed("No answer in time");
});
