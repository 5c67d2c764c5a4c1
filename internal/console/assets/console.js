// SPDX-License-Identifier: Apache-2.0
// What pages need beside htmx. Everything works from attributes, for parts that come later as well.
(() => {
  const root = document.documentElement;
  const saved = localStorage.getItem("theme");
  if (saved) root.dataset.theme = saved;

  const zone = new Intl.DateTimeFormat(root.lang, { dateStyle: "short", timeStyle: "medium" });
  const localTimes = (part) => part.querySelectorAll("time[datetime]").forEach((e) => {
    const t = new Date(e.dateTime);
    if (!isNaN(t)) { e.title = e.dateTime; e.textContent = zone.format(t); }
  });
  const choose = () => {
    const by = document.querySelector("[data-by]:checked");
    if (by) document.querySelectorAll("[data-for]").forEach((e) => { e.hidden = e.dataset.for !== by.value; });
  };
  const look = (part) => { localTimes(part); choose(); };
  const named = (file) => {
    const name = document.querySelector("[data-name]");
    if (name && file && !name.value) name.value = file.name;
  };

  document.addEventListener("DOMContentLoaded", () => look(document));
  document.addEventListener("htmx:afterSwap", (e) => look(e.detail.target));
  // What a reader has opened stays open when a live part is loaded again, and the focus stays where it is.
  let open = [], focus = "";
  document.addEventListener("htmx:beforeSwap", (e) => {
    open = [...e.detail.target.querySelectorAll("details")].map((d) => d.open);
    focus = e.detail.target.contains(document.activeElement) ? document.activeElement.id : "";
    const busy = document.activeElement && document.activeElement.matches("input,select,textarea");
    if (busy && focus && e.detail.requestConfig.triggeringEvent?.type.startsWith("sse:")) e.detail.shouldSwap = false; // not while somebody types
  });
  document.addEventListener("htmx:afterSettle", (e) => {
    const now = [...e.detail.target.querySelectorAll("details")];
    if (now.length === open.length) now.forEach((d, i) => { d.open = open[i]; });
    if (e.detail.target.id === "flash") e.detail.target.scrollIntoView({ block: "nearest" });
    if (focus) document.getElementById(focus)?.focus();
    open = []; focus = "";
    if (!e.detail.target.closest("[sse-connect]")) document.getElementById("flash")?.replaceChildren(...(e.detail.target.id === "flash" ? e.detail.target.childNodes : []));
  });
  document.addEventListener("click", (e) => {
    const at = (what) => e.target.closest(what);
    if (at("[data-theme-toggle]")) {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
    } else if (at("[data-menu]")) {
      const shown = document.getElementById("nav").classList.toggle("open");
      at("[data-menu]").setAttribute("aria-expanded", shown);
    } else if (at("[data-copy]")) {
      navigator.clipboard?.writeText(at("[data-copy]").parentNode.querySelector("code").textContent);
    } else if (at("[data-back]")) {
      e.preventDefault();
      history.back();
    }
  });
  document.addEventListener("change", (e) => {
    if (e.target.matches("[data-submit]")) e.target.form.requestSubmit();
    if (e.target.matches("[data-by]")) choose();
    if (e.target.matches("[data-page]")) { e.target.name = "page"; e.target.form.requestSubmit(); }
    if (e.target.matches("[data-drop] input")) named(e.target.files[0]);
  });
  document.addEventListener("submit", (e) => {
    const ask = e.target.closest("[data-confirm]");
    if (ask && !confirm(ask.dataset.confirm)) e.preventDefault();
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (e) => {
      const drop = e.target.closest?.("[data-drop]");
      if (!drop) return;
      e.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && e.dataTransfer.files.length) {
        const input = drop.querySelector("input");
        input.files = e.dataTransfer.files;
        named(input.files[0]);
      }
    });
  }
  // "/" goes to the search, "g" and a letter to a page.
  let going = false;
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input,select,textarea")) return;
    if (e.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) { e.preventDefault(); search.focus(); }
    }
    if (going) {
      const to = { o: "", d: "deliveries", s: "send", m: "machines", e: "explorer", x: "errors" }[e.key];
      if (to !== undefined) location.href = "/console/" + to;
    }
    going = e.key === "g";
  });
})();
