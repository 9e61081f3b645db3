// Searches while one types, and refreshes the page. Everything works without this script.
"use strict";
(() => {
  const REFRESH_MS = 5 * 60 * 1000;
  const LOOK_MS = 30 * 1000;
  const TYPING_MS = 250;
  let typing;
  let request;
  let shownAt = Date.now();
  let usedAt = 0;

  const part = (page, selector) => page.querySelector(selector);

  // Replaces everything but the fields of the form, so that what one types stays.
  async function show(address) {
    request?.abort();
    request = new AbortController();
    const response = await fetch(address, { signal: request.signal, credentials: "same-origin" });
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const selector of ["header.site", "footer.site"]) part(document, selector).replaceWith(part(fresh, selector));
    const [form, other] = [document, fresh].map((page) => part(page, "form.tools"));
    if (form && other) {
      part(form, ".filters").replaceWith(part(other, ".filters"));
      // In place, so that a screen reader says how many were found.
      part(form, ".found").textContent = part(other, ".found").textContent;
      other.replaceWith(form);
    }
    part(document, "main").replaceWith(part(fresh, "main"));
    part(document, ".outdated").hidden = true;
    shownAt = Date.now();
  }

  function search(form) {
    const parameters = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (value && !(name === "sort" && value === "importance")) parameters.append(name, value);
    }
    const address = `?${parameters}`;
    history.replaceState(null, "", address);
    const field = document.activeElement;
    show(address)
      .then(() => field?.form === form && field.focus())
      .catch(failed);
  }

  function failed(error) {
    if (error.name !== "AbortError") part(document, ".outdated").hidden = false;
  }

  // Does not take away what somebody reads, selects or types.
  function refresh() {
    const isRead = part(document, "main details[open]") || String(getSelection()) || Date.now() - usedAt < LOOK_MS;
    if (!document.hidden && !isRead && Date.now() - shownAt >= REFRESH_MS) show(location.href).catch(failed);
  }

  document.addEventListener("input", ({ target }) => {
    if (!target.form?.matches("form.tools")) return;
    clearTimeout(typing);
    typing = setTimeout(search, target.matches("select") ? 0 : TYPING_MS, target.form);
  });
  for (const event of ["keydown", "pointerdown"]) document.addEventListener(event, () => (usedAt = Date.now()));
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, LOOK_MS);
})();
