// What the site does by itself: shows definitions of terms, remembers what was read.

const root = new URL(document.documentElement.dataset.content_root, location);
const pageOf = ({ pathname }) => decodeURI(pathname.slice(root.pathname.length));

/** Show a term's definition while a link to it is hovered or focused; Escape hides it. */
function defineTerms() {
  const card = document.createElement("div");
  Object.assign(card, { id: "term", role: "tooltip", hidden: true });
  document.body.append(card);
  let shown, leaving;
  const hide = () => {
    card.hidden = true;
    shown?.removeAttribute("aria-describedby");
  };
  const show = (link) => {
    clearTimeout(leaving);
    hide();
    shown = link;
    card.textContent = GLOSSARY[link.hash.slice(1)];
    card.hidden = false;
    link.setAttribute("aria-describedby", card.id);
    const place = link.getBoundingClientRect(), { offsetWidth, offsetHeight } = card;
    const above = place.bottom + offsetHeight + 8 > innerHeight;
    card.style.left = `${Math.max(8, Math.min(place.left, document.body.clientWidth - offsetWidth - 8)) + scrollX}px`;
    card.style.top = `${(above ? place.top - offsetHeight - 6 : place.bottom + 6) + scrollY}px`;
  };
  const leave = () => { leaving = setTimeout(hide, 200); };
  card.onpointerenter = () => clearTimeout(leaving);
  card.onpointerleave = leave;
  addEventListener("keydown", ({ key }) => { if (key === "Escape") hide(); });
  for (const link of document.querySelectorAll("article a[href*='#']")) {
    if (pageOf(link) !== "notebooks/glossary.html" || !GLOSSARY[link.hash.slice(1)]) continue;
    link.onpointerenter = link.onfocus = () => show(link);
    link.onpointerleave = link.onblur = leave;
  }
}

/** Let a button at the end mark this page as read, in the list of pages too. */
function markRead() {
  const key = "gpt2-lesson-read", here = pageOf(location);
  const read = new Set(JSON.parse(localStorage.getItem(key) ?? "[]"));
  const links = [...document.querySelectorAll(".bd-sidebar-primary nav a.internal")];
  const button = document.createElement("button");
  const show = () => {
    button.setAttribute("aria-pressed", read.has(here));
    button.textContent = read.has(here) ? "Read" : "Mark as read";
    for (const link of links) {
      link.classList.toggle("read", read.has(pageOf(link)));
      link.title = read.has(pageOf(link)) ? "read" : "";
    }
  };
  Object.assign(button, { type: "button", className: "read-mark", onclick: () => {
    if (!read.delete(here)) read.add(here);
    localStorage.setItem(key, JSON.stringify([...read]));
    show();
  } });
  show();
  if (here.startsWith("notebooks/")) document.querySelector("article.bd-article")?.append(button);
}

addEventListener("DOMContentLoaded", () => {
  for (const fold of document.querySelectorAll(".bd-sidebar-primary summary")) fold.ariaLabel = "more pages";
  if (typeof GLOSSARY !== "undefined") defineTerms();
  try { markRead(); } catch { /* a browser that stores nothing */ }
});
