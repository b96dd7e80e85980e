// Keys press the buttons that are on the page; everything works without them. It draws nothing and stores nothing.
// It is loaded before the body, so that no click comes before it listens.
"use strict";

const CHOICES = {
  ArrowLeft: "first", 1: "first",
  ArrowRight: "second", 2: "second",
  ArrowDown: "tie", 0: "tie", t: "tie",
};
const DIALOGS = { s: "skip", "?": "help" };
const LINKS = { u: "back", Backspace: "back", Enter: "next" };

const byId = (id) => document.getElementById(id);
const opened = () => document.querySelector("dialog[open]");

function target(key) {
  const dialog = opened();
  if (dialog) return dialog.querySelector(`[data-digit="${CSS.escape(key)}"]`);
  if (CHOICES[key]) return document.querySelector(`.choices [value="${CHOICES[key]}"]`);
  if (DIALOGS[key]) return document.querySelector(`[data-opens="${DIALOGS[key]}"]`);
  if (LINKS[key]) return document.querySelector(`[data-key="${LINKS[key]}"]`) || (key === "Enter" && document.querySelector(".end .choices button"));
  return null;
}

function leave(event) {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return true; // a key that is held down decides once
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return true; // it presses what has the focus
  return event.key === "ArrowDown" && event.target.closest(".turns") !== null && !opened(); // there it scrolls
}

document.addEventListener("keydown", (event) => {
  if (leave(event)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const dialog = opened();
  if (dialog && dialog.id === DIALOGS[key]) {
    event.preventDefault();
    dialog.close();
    return;
  }
  const found = target(key);
  if (!found) return;
  event.preventDefault();
  found.click();
});

// A double click is one label: the second click finds this page leaving, or the next one too young to have been read.
const TOO_SOON_MS = 300;
let isSent = false;
let shownAt = performance.now();
document.addEventListener("submit", (event) => {
  if (event.target.method === "dialog") return;
  if (isSent || performance.now() - shownAt < TOO_SOON_MS) {
    event.preventDefault();
    return;
  }
  isSent = true;
});
window.addEventListener("pageshow", () => {
  isSent = false;
  shownAt = performance.now();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) byId(opener.dataset.opens).showModal();
});

document.addEventListener("DOMContentLoaded", () => {
  const turns = document.querySelector(".turns");
  if (turns) turns.scrollTop = turns.scrollHeight; // the last turn is what the responses answer
});
