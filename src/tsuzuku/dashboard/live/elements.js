// Building what is on the page. Texts are always set as text, so that markup in them stays text.

/** An element with properties (`class`, `role`, `on: {click}`, …) and children. */
export function make(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "text") {
      element.textContent = value;
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** Set a text only where it changes: nothing is laid out anew, no reader hears it twice. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show or hide. */
export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** What a visitor has set, kept for the time of the visit; a page without storage works too. */
export function remembered(name, otherwise) {
  try {
    return JSON.parse(sessionStorage.getItem(`tsuzuku.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    sessionStorage.setItem(`tsuzuku.${name}`, JSON.stringify(value));
  } catch {
    // not kept, then
  }
}
