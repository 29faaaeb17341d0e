const filters = [...document.querySelectorAll("nav button")];
const groups = [...document.querySelectorAll(".group")];
function show(wanted) {
  for (const button of filters) {
    button.setAttribute("aria-pressed", String(button.dataset.show === wanted));
  }
  for (const group of groups) {
    group.hidden = !(wanted === "all" || group.id === wanted || group.dataset.kind === wanted);
  }
}
for (const button of filters) {
  button.addEventListener("click", () => {
    show(button.dataset.show);
    document.querySelector("main").scrollIntoView();
  });
}
for (const link of document.querySelectorAll(".why a")) {
  link.addEventListener("click", () => show("all"));
}
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => {
    const on = button.parentElement.classList.toggle("blinking");
    button.setAttribute("aria-pressed", String(on));
  });
}
