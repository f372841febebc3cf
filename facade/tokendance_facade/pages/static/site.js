// What makes pages handier where scripts run; every page is whole without it.
"use strict";

function announce(text) {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
    announce("Copied to the clipboard.");
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    button.textContent = "Selected";
    announce("Selected; copy it with your keyboard.");
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

function filterRows(input) {
  const wanted = input.value.trim().toLowerCase();
  let shown = 0;
  for (const row of document.querySelectorAll("[data-words]")) {
    row.hidden = !wanted.split(/\s+/).every((word) => row.dataset.words.includes(word));
    if (!row.hidden) shown += 1;
  }
  const none = document.getElementById("none-found");
  if (none) none.hidden = shown > 0;
  announce(`${shown} shown.`);
}

async function refresh(part) {
  const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById(part.id);
  if (!fresh || fresh.innerHTML === part.innerHTML) return;
  part.replaceChildren(...fresh.childNodes);
  showCopyButtons(part);
  const spoken = part.querySelector("[data-spoken]");
  if (spoken) announce(spoken.textContent);
}

function follow(part) {
  const source = new EventSource(part.dataset.live);
  // The first event comes at once: what changed since the page was made is seen, too.
  source.addEventListener("status", () => refresh(part).catch(() => {}));
  window.addEventListener("pagehide", () => source.close());
}

function showCopyButtons(where) {
  for (const button of where.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

showCopyButtons(document);
for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => filterRows(input));
}
for (const part of document.querySelectorAll("[data-live]")) follow(part);

// Wide screens show the contents of a page beside it, opened.
const wide = window.matchMedia("(min-width: 64rem)");
function fitContents() {
  for (const contents of document.querySelectorAll(".contents details")) contents.open = wide.matches;
}
wide.addEventListener("change", fitContents);
fitContents();
