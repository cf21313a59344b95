// Before anything is drawn: the theme that this person chose, if any; otherwise the system's.
const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
