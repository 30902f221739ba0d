// Keys for the page, and what a tab remembers of its searches; everything works without them, too.
// It writes no text of its own: what is to be read stands in the page, in its language.
"use strict";

const cards = [...document.querySelectorAll("[data-grid] .card")];
const keys = document.getElementById("keys");
const zoom = document.getElementById("zoom");

for (const button of document.querySelectorAll("[data-opens]")) {
  button.hidden = false;
  button.addEventListener("click", () => document.getElementById(button.dataset.opens).showModal());
}

// How many cards stand in the first row.
function columns() {
  const top = cards[0].getBoundingClientRect().top;
  const next = cards.findIndex((card) => card.getBoundingClientRect().top > top);
  return next < 0 ? cards.length : next;
}

function move(key) {
  const here = cards.indexOf(cardHere());
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
  const there = here < 0 ? 0 : here + steps[key];
  if (!cards[there]) return false;
  cards[there].focus();
  return true;
}

function cardHere() {
  return document.activeElement?.closest("[data-grid] li")?.querySelector(".card");
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (!link || link.closest("[hidden]")) return false;
  link.click();
  return true;
}

function similar() {
  const card = cardHere();
  if (card) location.assign(card.dataset.similar);
  return Boolean(card) || follow("[data-similar-here]");
}

// A person is right, or wrong, or not judged: not both.
function judge(name) {
  const box = cardHere()?.parentElement.querySelector(`[name=${name}]`);
  if (box) box.click();
  return Boolean(box);
}

for (const box of document.querySelectorAll(".marks input")) {
  box.addEventListener("change", () => {
    for (const other of box.closest(".marks").querySelectorAll("input")) if (other !== box) other.checked = false;
  });
}

for (const link of document.querySelectorAll("[data-zoom]")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const shown = zoom.querySelector("img");
    shown.src = link.href;
    shown.alt = link.querySelector("img").alt;
    zoom.showModal();
  });
}
zoom?.addEventListener("click", (event) => {
  if (event.target === zoom || event.target.tagName === "IMG") zoom.close();
});

// What this tab searched and was shown: kept by the browser until the tab is closed, or somebody signs in.
function remembered(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing is as good.
  }
}

function forget() {
  sessionStorage.removeItem("recent");
  const shown = document.querySelector("[data-recent]");
  if (shown) shown.hidden = true;
}

function showRecent() {
  const shown = document.querySelector("[data-recent]");
  const recent = remembered("recent") ?? [];
  if (!shown || !recent.length) return;
  for (const { text, address } of recent) {
    const link = document.createElement("a");
    link.className = "chip";
    link.href = address;
    link.textContent = text;
    shown.querySelector("[data-recent-list]").append(link, " ");
  }
  shown.hidden = false;
  shown.querySelector("[data-forget]").addEventListener("click", forget);
}

function noteResults() {
  const address = location.pathname + location.search;
  const text = document.querySelector("[data-search]")?.dataset.search;
  if (text) {
    const others = (remembered("recent") ?? []).filter((one) => one.text !== text);
    remember("recent", [{ text, address }, ...others].slice(0, 6));
  }
  if (!cards.length) return;
  const others = (remembered("results") ?? []).filter((one) => one.address !== address);
  remember("results", [{ address, people: cards.map((card) => card.getAttribute("href")) }, ...others].slice(0, 6));
}

// On the page of a person: the way back to where they were found last, and to who stands beside them there.
function showTrail() {
  const trail = document.querySelector("[data-trail]");
  const results = (remembered("results") ?? []).find((one) => one.people.includes(location.pathname));
  if (!trail || !results) return;
  const here = results.people.indexOf(location.pathname);
  trail.querySelector("[data-back]").href = results.address;
  trail.querySelector("[data-place]").textContent = `${here + 1} / ${results.people.length}`;
  for (const [name, step] of [["previous", -1], ["following", 1]]) {
    const link = trail.querySelector(`[data-${name}]`);
    const there = results.people[here + step];
    if (there) link.href = there;
    else link.remove();
  }
  trail.hidden = false;
}

const walk = document.querySelector(".walk");
if (walk) walk.scrollLeft = walk.querySelector("[aria-current]").parentElement.offsetLeft - walk.clientWidth / 2;

if (document.querySelector("[data-leaves]")) sessionStorage.clear();
noteResults();
showRecent();
showTrail();

for (const form of document.querySelectorAll("[data-sends]")) {
  form.addEventListener("submit", () => {
    form.querySelector("[data-sending]").hidden = false;
    form.querySelector("button.primary").disabled = true;
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
  z: () => follow("[data-zoom]"),
  b: () => follow("[data-back]"),
};
const beside = { ArrowLeft: "[data-previous]", ArrowRight: "[data-following]" };

document.addEventListener("keydown", (event) => {
  const writing = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (writing || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  let done = false;
  if (!event.key.startsWith("Arrow")) done = actions[event.key]?.();
  // From outside the pictures, up and down scroll as ever.
  else if (cards.length) done = (cardHere() || event.key === "ArrowRight") && move(event.key);
  else if (!document.activeElement?.closest(".walk")) done = beside[event.key] && follow(beside[event.key]);
  if (done) event.preventDefault();
});
