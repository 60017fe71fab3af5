// Makes and changes elements. Text is always text: nothing here reads HTML.

/** Return a new element: properties by name (`class`, `data-x`, `aria-x`, `onclick` as a function), then children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Set an element's text, when it is another: an unchanged page costs no layout. */
export function setText(element, text) {
  if (element && element.textContent !== String(text)) element.textContent = text;
}

/**
 * Make the children of `parent` those of `items`, in order, reusing elements by key: focus and scroll stay.
 * `make(item)` returns a new element, `update(element, item)` brings it up to date.
 */
export function keyed(parent, items, key, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let element = before.get(name);
    if (element) before.delete(name);
    else {
      element = make(item);
      element.dataset.key = name;
    }
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of before.values()) element.remove();
}
