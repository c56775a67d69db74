// Fetches rendered parts and puts them into the page. What is wanted stands in the URL.
"use strict";

const INTERVAL = 1000;
const token = document.querySelector("meta[name=reelhook-token]")?.content;
const part = (id) => document.getElementById(id);
const wanted = () => new URLSearchParams(location.search);
let shownState = null;

function say(text, isError = false) {
  part("said").textContent = text;
  part("said").classList.toggle("error", isError);
}

async function fetched(path) {
  const response = await fetch(path);
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  return text;
}

// Replaces what differs, and keeps the focus on the same task.
function put(element, html) {
  if (element.dataset.html === html) return;
  const focused = element.contains(document.activeElement) && document.activeElement.dataset.open;
  element.dataset.html = html;
  element.innerHTML = html;
  if (focused) element.querySelector(`[data-open="${CSS.escape(focused)}"]`)?.focus();
}

function path(task) {
  const [provider, id] = task.split("/");
  return `${provider}/${encodeURIComponent(id)}`;
}

async function refreshDetail() {
  const task = wanted().get("task");
  part("detail").hidden = !task;
  if (!task) {
    part("player").replaceChildren();
    delete part("player").dataset.key;
    shownState = null;
    return;
  }
  const fragment = document.createElement("template");
  fragment.innerHTML = await fetched(`/task/${path(task)}?${wanted()}`);
  if (wanted().get("task") !== task) return;
  const [player, facts] = ["player", "facts"].map((name) => fragment.content.querySelector(`[data-part=${name}]`));
  // A video that plays is left alone.
  if (part("player").dataset.key !== player.dataset.key) {
    part("player").dataset.key = player.dataset.key;
    part("player").replaceChildren(...player.children);
  }
  const isOpen = part("facts").querySelector("details")?.open;
  put(part("facts"), facts.innerHTML);
  const details = part("facts").querySelector("details");
  if (details && isOpen) details.open = true;
  if (shownState !== `${task} ${facts.dataset.state}`) {
    shownState = `${task} ${facts.dataset.state}`;
    refreshHistory(task);
    // A line of the log appears when its invocation has ended.
    setTimeout(() => refreshHistory(task), 3000);
  }
}

async function refreshHistory(task) {
  if (wanted().get("task") !== task) return;
  try {
    const html = await fetched(`/history/${path(task)}`);
    if (wanted().get("task") === task) put(part("history"), html);
  } catch (error) {
    part("history").textContent = error.message;
  }
}

async function refresh() {
  try {
    const [list, charts] = await Promise.all([fetched(`/tasks?${wanted()}`), fetched("/charts"), refreshDetail()]);
    put(part("list"), list);
    put(part("charts"), charts);
    document.body.dataset.refreshed = String(Date.now());
  } catch (error) {
    say(error.message, true);
  }
}

function go(url) {
  history.pushState(null, "", url);
  refresh();
}

async function write(path) {
  say("…");
  const response = await fetch(path, { method: "POST", headers: { "x-reelhook-token": token ?? "" } });
  say(await response.text(), !response.ok);
  refresh();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const action = event.target.closest("button[data-action]");
  if (action) {
    write(`/task/${action.parentElement.dataset.path}/${action.dataset.action}`);
  } else if (link && (link.dataset.open !== undefined || link.rel === "next" || link.rel === "prev") && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    go(link.href);
  }
});

function filter() {
  const url = wanted();
  for (const [name, value] of new FormData(part("filters"))) {
    if (value) url.set(name, value);
    else url.delete(name);
  }
  url.delete("page");
  go(`/?${url}`);
}

part("filters").addEventListener("input", filter);
part("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  filter();
});
part("submit")?.addEventListener("submit", (event) => {
  event.preventDefault();
  write(`/submit/${new FormData(event.target).get("sample")}`);
});

addEventListener("popstate", refresh);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (isTyping) event.target.blur();
    else {
      const url = wanted();
      url.delete("task");
      go(`/?${url}`);
    }
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault();
    document.querySelector("[name=q]").focus();
  } else if ((event.key === "j" || event.key === "k") && !isTyping) {
    const links = [...document.querySelectorAll("#list [data-open]")];
    const at = links.indexOf(document.activeElement);
    const next = event.key === "j" ? at + 1 : Math.max(at - 1, 0);
    links[Math.min(next, links.length - 1)]?.focus();
  }
});

// One after the other: a slow response does not pile up requests.
(async function keep() {
  if (!document.hidden) await refresh();
  setTimeout(keep, INTERVAL);
})();
