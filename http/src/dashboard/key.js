// The API key, if the service wants one: kept in this tab, and nowhere else.

const NAME = "keyshard-api-key";

/** How requests are made: without the browser's own credentials, or it would ask for a password by itself. */
export const BARE = { credentials: "omit", cache: "no-store" };

/** Headers that show the key, with these others. */
export function headers(others = {}) {
  const key = sessionStorage.getItem(NAME);
  return key ? { ...others, authorization: `Bearer ${key}` } : others;
}

/** Asks for a key; resolves when there is one. `why` is what the service said. */
export function ask(why) {
  const form = document.getElementById("key-form");
  const field = document.getElementById("key");
  document.getElementById("key-why").textContent = why;
  form.hidden = false;
  field.focus();
  return new Promise((resolve) => {
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        sessionStorage.setItem(NAME, field.value.trim());
        field.value = "";
        form.hidden = true;
        resolve();
      },
      { once: true },
    );
  });
}
