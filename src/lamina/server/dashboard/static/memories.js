// The slider and the field say the same moment. The field is what is sent; without scripts it stands alone.
document.addEventListener("input", (event) => {
  const slider = document.getElementById("slider");
  if (!slider) return;
  const field = slider.form.elements.as_of;
  const stops = [...slider.list.options];
  if (event.target === slider) {
    field.value = stops[slider.value].dataset.at;
  } else if (event.target === field) {
    const at = stops.findLastIndex((stop) => stop.dataset.at && stop.dataset.at <= field.value);
    slider.value = field.value ? Math.max(0, at) : stops.length - 1;
    document.getElementById("stop").value = field.value ? field.value.slice(0, 16).replace("T", ", ") : "now";
  }
  slider.setAttribute("aria-valuetext", stops[slider.value].label);
});
