// Searches while one types, and refreshes the page. Everything works without this script.
"use strict";
(() => {
  const REFRESH_MS = 5 * 60 * 1000;
  const TYPING_MS = 250;
  let timer;
  let request;

  // Replaces what is below the form, so that what one types stays.
  async function show(address) {
    request?.abort();
    request = new AbortController();
    const response = await fetch(address, { signal: request.signal, credentials: "same-origin" });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const form = document.querySelector("form.tools");
    const fresh = page.querySelector("main");
    if (!fresh) return;
    if (form && document.activeElement?.form === form) {
      const other = fresh.querySelector("form.tools");
      if (!other) return;
      form.querySelector(".filters")?.replaceWith(other.querySelector(".filters"));
      while (form.nextSibling) form.nextSibling.remove();
      while (other.nextSibling) form.after(other.parentNode.lastChild);
    } else {
      document.querySelector("main").replaceWith(fresh);
    }
    const languages = page.querySelector(".languages");
    if (languages) document.querySelector(".languages").replaceWith(languages);
  }

  function search(form) {
    const parameters = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (value && !(name === "sort" && value === "importance")) parameters.append(name, value);
    }
    const address = `?${parameters}`;
    history.replaceState(null, "", address);
    show(address).catch(() => {});
  }

  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (!form?.matches("form.tools")) return;
    clearTimeout(timer);
    timer = setTimeout(() => search(form), event.target.matches("select") ? 0 : TYPING_MS);
  });

  // Does not take away what somebody reads, selects or types.
  setInterval(() => {
    const isRead = document.querySelector("main details[open]") || String(getSelection());
    const isUsed = document.activeElement && document.activeElement !== document.body;
    if (document.hidden || isRead || isUsed) return;
    show(location.href).catch(() => {});
  }, REFRESH_MS);
})();
