// Keys for the page; everything works without them, too.
"use strict";

const cards = [...document.querySelectorAll("[data-grid] .card")];
const keys = document.getElementById("keys");

for (const button of document.querySelectorAll("[data-opens]")) {
  button.hidden = false;
  button.addEventListener("click", () => document.getElementById(button.dataset.opens).showModal());
}

// How many cards stand in the first row.
function columns() {
  const top = cards[0].offsetTop;
  const next = cards.findIndex((card) => card.offsetTop > top);
  return next < 0 ? cards.length : next;
}

function move(key) {
  const here = cards.indexOf(document.activeElement);
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
  const there = here < 0 ? 0 : here + steps[key];
  if (!cards[there]) return false;
  cards[there].focus();
  return true;
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
  return Boolean(link);
}

function similar() {
  const card = document.activeElement?.closest(".card");
  if (card) location.assign(card.dataset.similar);
  return Boolean(card) || follow("[data-similar-here]");
}

// A person is right, or wrong, or not judged: not both.
function judge(name) {
  const card = document.activeElement?.closest(".card");
  const box = card?.parentElement.querySelector(`[name=${name}]`);
  if (box) box.click();
  return Boolean(box);
}

for (const box of document.querySelectorAll(".judge input")) {
  box.addEventListener("change", () => {
    for (const other of box.closest(".judge").querySelectorAll("input")) if (other !== box) other.checked = false;
  });
}

// While something is being indexed, show how far it is.
async function renew() {
  const shown = document.querySelector("[data-live]");
  if (!shown) return;
  const answer = await fetch(location.pathname).catch(() => null);
  if (answer?.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // Not under the fingers of who is about to press a button in it.
    if (!shown.contains(document.activeElement)) shown.replaceWith(page.getElementById(shown.id));
  }
  setTimeout(renew, 1000);
}
setTimeout(renew, 1000);

const actions = {
  "/": () => {
    const box = document.getElementById("q");
    if (box) box.select();
    return Boolean(box);
  },
  "?": () => (keys.showModal(), true),
  s: similar,
  y: () => judge("right"),
  x: () => judge("wrong"),
  r: () => follow(".refine button"),
  n: () => follow("[data-next]"),
};

document.addEventListener("keydown", (event) => {
  const writing = event.target.closest("input, select, textarea");
  if (writing || keys.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrows = cards.length && event.key.startsWith("Arrow");
  // From outside the pictures, up and down scroll as ever.
  if (arrows && !document.activeElement?.closest(".card") && event.key !== "ArrowRight") return;
  if (arrows ? move(event.key) : actions[event.key]?.()) event.preventDefault();
});
